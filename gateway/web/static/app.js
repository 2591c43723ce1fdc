// @ts-check
/**
 * One page: the snapshot, the draft and what lies open, drawn whole on every change. It holds no
 * truth: what a person sees of a vehicle comes from the gateway, what is kept here is half-typed.
 */
import { html, render } from './vendor/lit-html/lit-html.js';
import { actions } from './actions.js';
import { ask, Link, Refusal } from './link.js';
import { GUARD_MS, listen } from './keys.js';
import { play, unlock } from './sound.js';
import { adopt, emptyDraft, isNewer, screenOf } from './state.js';
import { t } from './text.js';
import * as around from './screens/around.js';
import { dialog } from './screens/dialogs.js';
import { boot, login, shift } from './screens/entrance.js';
import { fare } from './screens/fare.js';
import { steps, strip, top } from './screens/frame.js';
import { idle, reading, suspended } from './screens/idle.js';
import { pairing } from './screens/pairing.js';
import { plate } from './screens/plate.js';
import { doubtful, saved, saving } from './screens/save.js';
import { shiftEnd } from './screens/shift.js';
import { held, refused } from './screens/special.js';
import { vehicle } from './screens/vehicle.js';

/** @type {Record<string, (app: App) => unknown>} */
const SCREENS = { idle, reading, refused, held, plate, vehicle, fare, saving, doubtful, saved };
/** @type {Record<string, (app: App) => unknown>} */
const PLACES = { shift, suspended, pairing, shiftEnd, ...around };
const STAY_MS = 3000; // a success stays so long, unless somebody touches it
const WORD_MS = 400; // nothing spins before this

/** @typedef {{code?: string, detail?: string, action?: string, level?: string}} Fault */

/** The page and its deeds. @typedef {Page & Record<string, any>} App */

export class Page {
  constructor(/** @type {HTMLElement} */ root, /** @type {HTMLElement} */ live) {
    this.root = root;
    this.live = live;
    this.view = 'boot';
    /** @type {any} the last snapshot, whole */
    this.s = null;
    /** @type {any} */ this.session = null;
    /** @type {any[]} */ this.lanes = [];
    /** @type {Record<string, any[]>} */ this.tables = { stations: [], vehicle_types: [], vehicle_classes: [], colours: [] };
    this.choice = { lane: '', shift: shiftNow() };
    this.draft = restored();
    this.secret = { operator: '', password: '', field: 'operator' };
    /** @type {Record<string, any> | null} */ this.dialog = null;
    /** @type {Fault | null} */ this.error = null;
    /** @type {{command: string, at: number} | null} */ this.pending = null;
    /** @type {Record<string, any>} */ this.data = {};
    this.dismissed = sessionStorage.getItem('dismissed') ?? '';
    this.held = '';
    this.nudge = '';
    this.codePrefix = '';
    this.learning = '';
    this.noPhoto = false;
    this.shot = 0;
    this.skew = 0;
    this.shownAt = 0;
    this.screenKey = '';
    this.busyAt = 0;
    this.bootedAt = performance.now();
    this.settings = { theme: 'auto', scale: 1, volume: 0.5, map: {}, ...stored('settings', localStorage) };
    this.link = new Link({
      heard: (message, isFirst) => this.hear(message, isFirst), changed: () => this.draw(), failed: () => this.recheck(),
    });
  }

  // ---- what is so ----

  get isSlow() { return performance.now() - this.bootedAt > 5000; }
  get isBusy() { return !!this.pending || !!this.s?.busy || (!!this.s && this.view !== 'login' && !this.link.isUp); }
  get isMine() {
    const owner = this.s?.passage?.owner ?? '';
    return !owner || owner === this.session?.owner;
  }

  /** @param {string} command */
  can(command) { return !!this.s?.allowed.includes(command); }

  /** The gateway's clock, as well as we know it. */
  now() { return Date.now() + this.skew; }

  busyFor() { return this.busyAt ? performance.now() - this.busyAt : 0; }

  busyWord() {
    if (!this.busyAt || this.busyFor() < WORD_MS) return '';
    const what = this.pending?.command ?? this.s?.busy;
    return t(`busy.${what}`);
  }

  // ---- what comes in ----

  /** @param {any} message @param {boolean} isFirst */
  hear(message, isFirst) {
    if (message.type === 'snapshot') return this.take(message, isFirst);
    this.skew = message.at_ms - Date.now();
    if (this.s && message.rev > this.s.rev) this.refresh();
    return undefined;
  }

  /** A snapshot, whole. @param {any} fresh @param {boolean} [isFirst] */
  take(fresh, isFirst = false) {
    if (!isNewer(this.s, fresh, isFirst)) return;
    const old = this.s;
    this.s = fresh;
    this.skew = fresh.at_ms - Date.now();
    if (old && (old.state !== fresh.state || old.passage?.id !== fresh.passage?.id)) {
      this.error = null;
      this.draft = { ...this.draft, look: '' };
      if (this.dialog && !['photo', 'help', 'sync'].includes(this.dialog.kind)) this.dialog = null;
      this.nudge = '';
      this.hark(old, fresh);
    }
    this.keep(adopt(this.draft, fresh));
    if (fresh.state === 'saved' && old?.state !== 'saved') this.countDown(fresh, !old);
    this.draw();
  }

  /** @param {any} old @param {any} fresh */
  hark(old, fresh) {
    const cue = /** @type {Record<string, string>} */ ({ saved: 'ok', checked: fresh.passage?.findings.length ? 'notice' : 'tick', refused: 'error', doubtful: 'error', unpriced: 'notice' })[fresh.state];
    if (cue || fresh.problem) play(cue ?? 'error', this.settings.volume);
  }

  refresh() {
    ask('GET', `/api/lanes/${this.s.lane}`).then(fresh => this.take(fresh), () => {});
  }

  /** The socket did not open: is it the link, or are we signed out? */
  async recheck() {
    const session = await ask('GET', '/api/session').catch(() => null);
    if (session && !session.operator && this.view !== 'login') /** @type {App} */ (this).signedOut();
  }

  // ---- draft ----

  /** @param {import('./state.js').Draft} draft */
  keep(draft) {
    this.draft = draft;
    if (draft.passage) sessionStorage.setItem('draft', JSON.stringify(draft));
    else sessionStorage.removeItem('draft');
  }

  /** @param {Partial<import('./state.js').Draft>} patch */
  set(patch) {
    this.error = null;
    this.nudge = '';
    this.keep({ ...this.draft, ...patch });
    this.draw();
  }

  // ---- success stays a moment ----

  /** A page that opens long after has nothing to celebrate. @param {any} s @param {boolean} isOpening */
  countDown(s, isOpening) {
    const passage = s.passage.id;
    if (isOpening && s.last && this.now() - s.last.saved_at_ms > STAY_MS) return this.dismiss();
    setTimeout(() => { if (this.held !== passage && this.s?.passage?.id === passage && !this.s.problem) this.dismiss(); }, STAY_MS);
  }

  hold() {
    if (this.s?.state === 'saved') this.held = this.s.passage.id;
    this.draw();
  }

  dismiss() {
    if (this.s?.state !== 'saved') return;
    this.dismissed = this.s.passage.id;
    sessionStorage.setItem('dismissed', this.dismissed);
    this.keep(emptyDraft());
    this.draw();
  }

  // ---- drawing ----

  get screen() { return this.s ? screenOf(this.s, this.draft, this.dismissed) : ''; }

  draw() {
    const isBusy = !!this.pending || !!this.s?.busy;
    this.busyAt = isBusy ? this.busyAt || performance.now() : 0;
    const key = [this.view, this.view === 'lane' ? this.screen : this.data.id, this.dialog?.kind, this.s?.passage?.id, this.s?.state === 'agreed'].join();
    const isNew = key !== this.screenKey;
    if (isNew) {
      this.screenKey = key;
      this.shownAt = performance.now();
    }
    this.dress();
    render(this.template(), this.root);
    if (isNew) this.announce();
  }

  template() {
    const me = /** @type {App} */ (this);
    const lane = this.view === 'lane' && this.s ? this.screen : '';
    const body = this.view === 'boot' || (this.view === 'lane' && !this.s) ? boot(me)
      : lane ? SCREENS[lane](me) : this.view === 'login' ? login(me) : PLACES[this.view](me);
    const hasStrip = lane && lane !== 'idle' && lane !== 'reading' && this.s.passage;
    return html`<div class="shell ${hasStrip ? 'with-strip' : ''} ${lane ? 'with-steps' : ''} s-${lane || this.view}" ?inert=${!!this.dialog}>${top(me)}${
      hasStrip ? strip(me, lane) : ''}${lane ? steps(me, lane) : ''}${body}</div>${dialog(me)}`;
  }

  dress() {
    const { theme, scale } = this.settings;
    const { dataset } = document.documentElement;
    if (theme !== 'auto') dataset.theme = theme; else delete dataset.theme;
    dataset.scale = String(scale);
    dataset.rev = String(this.s?.rev ?? '');
    if (this.s?.is_training) document.body.dataset.training = t('training');
    else delete document.body.dataset.training;
  }

  announce() {
    const title = this.root.querySelector('.dialog h1, .work h1')?.textContent ?? '';
    this.live.textContent = title;
    const start = this.root.querySelector('.dialog input') ?? this.root.querySelector('.dialog')
      ?? (this.view === 'login' ? this.root.querySelector('input') : null);
    if (start instanceof HTMLElement) start.focus();
    else if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  }

  // ---- one press, one deed ----

  /** The primary button: not in the first moments of a screen, not twice. @param {() => unknown} act */
  press(act) {
    if (performance.now() - this.shownAt < GUARD_MS || this.pending) return;
    act();
  }

  /** @param {Fault} fault */
  fail(fault) {
    this.error = fault;
    play('error', this.settings.volume);
    this.draw();
  }

  /** Anything asked of the gateway besides commands: a word while it lasts, a fault at its place.
   * @template T @param {string} name @param {() => Promise<T>} work @returns {Promise<T | null>} */
  async doing(name, work) {
    if (this.pending) return null;
    this.pending = { command: name, at: performance.now() };
    this.error = null;
    this.draw();
    const later = setTimeout(() => this.draw(), WORD_MS);
    try {
      return await work();
    } catch (fault) {
      this.stumble(fault);
      return null;
    } finally {
      clearTimeout(later);
      this.pending = null;
      this.draw();
    }
  }

  /** @param {unknown} fault */
  stumble(fault) {
    if (!(fault instanceof Refusal)) return this.fail({ code: 'E-401', detail: t('link.noAnswer'), action: t('link.noAnswer.action') });
    if (fault.snapshot) this.take(fault.snapshot);
    if (fault.status === 401 && fault.code === 'session.missing') /** @type {App} */ (this).signedOut();
    return this.fail({ code: fault.code, detail: fault.detail, action: fault.action });
  }
}

Object.assign(Page.prototype, actions);

/** @param {string} name @param {Storage} storage */
function stored(name, storage) {
  try {
    return JSON.parse(storage.getItem(name) ?? 'null');
  } catch (broken) {
    if (broken instanceof SyntaxError) return null;
    throw broken;
  }
}

/** @returns {import('./state.js').Draft} */
function restored() {
  return { ...emptyDraft(), ...stored('draft', sessionStorage) };
}

function shiftNow() {
  const hour = (new Date().getUTCHours() + 8) % 24;
  return hour >= 6 && hour < 14 ? 1 : hour >= 14 && hour < 22 ? 2 : 3;
}

const root = document.getElementById('app');
const live = document.getElementById('live');
if (root && live) {
  const app = /** @type {App} */ (new Page(root, live));
  addEventListener('contextmenu', event => event.preventDefault());
  addEventListener('pointerdown', event => {
    unlock();
    if (app.screen === 'saved' && app.view === 'lane' && !(event.target instanceof Element && event.target.closest('button'))) app.hold();
  });
  listen({
    shownAt: () => app.shownAt, map: () => app.settings.map, learn: code => app.learned(code),
    type: char => app.typeChar(char), act: action => app.act(action), choose: n => app.pickOption(n),
  });
  setInterval(() => { if (app.pending || app.s?.busy || app.view === 'boot' || app.view === 'pairing' || app.screen === 'idle') app.draw(); }, 500);
  app.draw();
  app.start();
}
