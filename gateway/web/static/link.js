// @ts-check
/**
 * The only fetch and the only WebSocket. A lost answer is asked again under the same key, so nothing
 * happens twice; a silent link is a lost link, whatever readyState says.
 */

const SILENCE_MS = 5000; // heartbeats come every 2 s
const PATIENCE_MS = 3000; // a closed socket that is back sooner is not worth a bar
const ANSWER_MS = 15000;

/** What the gateway said no to. */
export class Refusal extends Error {
  /** @param {number} status @param {Record<string, any>} body */
  constructor(status, body) {
    super(body.detail ?? String(status));
    this.status = status;
    this.code = body.code ?? '';
    this.detail = body.detail ?? '';
    this.action = body.action ?? '';
    this.snapshot = body.snapshot ?? null;
  }
}

/** No answer, or none that the gateway itself wrote. */
export class Lost extends Error {}

/** One request. @param {string} method @param {string} path @param {any} [body]
 * @param {Record<string, string>} [headers] @returns {Promise<any>} */
export async function ask(method, path, body, headers = {}) {
  const isBlob = body instanceof Blob;
  /** @type {Record<string, string>} */
  const type = body === undefined ? {} : { 'content-type': isBlob ? 'image/jpeg' : 'application/json' };
  const request = {
    method, headers: { ...type, ...headers }, body: isBlob || body === undefined ? body : JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_MS),
  };
  const [response, answer] = await fetch(path, request).then(read).catch(fault => { throw new Lost(String(fault)); });
  if (response.ok) return answer;
  if (answer?.code) throw new Refusal(response.status, answer);
  throw new Lost(`HTTP ${response.status}`);
}

/** @param {Response} response @returns {Promise<[Response, any]>} */
async function read(response) {
  const text = await response.text();
  return [response, text && response.headers.get('content-type')?.includes('json') ? JSON.parse(text) : null];
}

const PAGE = [...crypto.getRandomValues(new Uint8Array(6))].map(byte => byte.toString(16).padStart(2, '0')).join('');
let asked = 0;

export class Link {
  /** @param {{heard: (message: any, isFirst: boolean) => void, changed: () => void, failed: () => void}} on */
  constructor(on) {
    this.on = on;
    this.isUp = false;
    this.lane = '';
    /** @type {WebSocket | null} */
    this.socket = null;
    this.heardAt = 0;
    this.lostAt = performance.now();
    setInterval(() => this.watch(), 500);
  }

  /** @param {string} lane '' hangs up */
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
    const address = `${location.origin.replace(/^http/, 'ws')}/api/live?lane=${encodeURIComponent(this.lane)}`;
    const socket = new WebSocket(address);
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
    const isSilent = performance.now() - this.heardAt > SILENCE_MS;
    if (!this.socket) this.dial();
    else if (isSilent) {
      this.hangUp();
      this.lostAt = performance.now() - SILENCE_MS;
    }
    if (!this.isUp) this.on.changed();
  }

  /** Whether people should be told. */
  get isMissed() {
    return !!this.lane && !this.isUp && performance.now() - this.lostAt > PATIENCE_MS;
  }

  /** One command of one lane; settles only with the gateway's own answer.
   * @param {string} lane @param {number} rev @param {Record<string, unknown>} body @returns {Promise<any>} */
  async command(lane, rev, body) {
    const headers = { 'idempotency-key': `${PAGE}-${rev}-${++asked}`, 'if-match': `"${rev}"` };
    for (let failed = 0; ; ) {
      try {
        return await ask('POST', `/api/lanes/${encodeURIComponent(lane)}/commands`, body, headers);
      } catch (fault) {
        if (!(fault instanceof Lost)) throw fault;
        if (this.isUp && ++failed > 4) throw fault;
        await new Promise(again => { setTimeout(again, 700); });
      }
    }
  }
}
