/** A lost answer is asked again under the same key; a silent link is a lost link, whatever readyState says. */

import { language } from './text.js';

const SILENCE_MS = 5000; // heartbeats come every 2 s
const PATIENCE_MS = 3000;
const ANSWER_MS = 15000;

/** {code, detail, action, snapshot?} */
export class Refusal extends Error {}

export class Lost extends Error {}

export const pause = ms => new Promise(again => { setTimeout(again, ms); });

export async function ask(method, path, body, headers = {}) {
  const isBlob = body instanceof Blob;
  const type = body === undefined ? {} : { 'content-type': isBlob ? body.type || 'application/x-tar' : 'application/json' };
  headers = { ...headers, ...type, 'accept-language': language };
  const request = { method, headers, body: isBlob || body === undefined ? body : JSON.stringify(body), signal: AbortSignal.timeout(ANSWER_MS) };
  const [response, answer] = await fetch(path, request).then(async heard => [heard, await heard.json()]).catch(fault => { throw new Lost(fault); });
  if (response.ok) return answer;
  throw Object.assign(new Refusal(), answer);
}

const PAGE = crypto.getRandomValues(new Uint32Array(2)).join('');
let asked = 0;

export class Link {
  constructor(on) {
    Object.assign(this, { on, isUp: false, lane: '', socket: null, heardAt: 0, lostAt: performance.now() });
    setInterval(() => this.watch(), 500);
  }

  open(lane) {
    this.lane = lane;
    this.hangUp();
    if (lane) this.dial();
  }

  hangUp() {
    const old = this.socket;
    this.socket = null;
    old?.close();
    this.lose();
  }

  dial() {
    const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/api/live?lang=${language}&lane=${encodeURIComponent(this.lane)}`);
    let isFirst = true;
    this.socket = socket;
    this.heardAt = performance.now();
    socket.onmessage = event => {
      if (this.socket !== socket) return;
      this.heardAt = performance.now();
      const wasUp = this.isUp;
      this.isUp = true;
      this.on.heard(JSON.parse(event.data), isFirst);
      isFirst = false;
      if (!wasUp) this.on.changed();
    };
    socket.onclose = event => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.lose();
      if (isFirst || event.code === 4401) this.on.failed();
    };
  }

  lose() {
    if (this.isUp) this.lostAt = performance.now();
    this.isUp = false;
    this.on.changed();
  }

  watch() {
    if (!this.lane) return;
    if (!this.socket) this.dial();
    else if (performance.now() - this.heardAt > SILENCE_MS) {
      this.hangUp();
      this.lostAt = performance.now() - SILENCE_MS;
    }
    if (!this.isUp) this.on.changed();
  }

  get isMissed() { return !!this.lane && !this.isUp && performance.now() - this.lostAt > PATIENCE_MS; }

  async command(lane, rev, body) {
    const headers = { 'idempotency-key': `${PAGE}-${rev}-${++asked}`, 'if-match': `"${rev}"` };
    for (let failed = 0; ; await pause(700)) {
      try {
        return await ask('POST', `/api/lanes/${encodeURIComponent(lane)}/commands`, body, headers);
      } catch (fault) {
        if (!(fault instanceof Lost) || (this.isUp && ++failed > 4)) throw fault;
      }
    }
  }
}
