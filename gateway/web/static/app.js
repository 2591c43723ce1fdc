/** Drawn whole on every change. The page holds no truth, only what is half-typed. */
import { render } from './vendor/lit-html/lit-html.js';
import { DEEDS, deeds } from './deeds.js';
import { alert, template } from './frame.js';
import { GUARD_MS, listen } from './keys.js';
import { ask, Link, Refusal } from './link.js';
import { play, unlock } from './sound.js';
import { adopt, emptyDraft, mayLook } from './state.js';
import { hourNow, speak, t } from './text.js';

const STAY_MS = 3000;
const WORD_MS = 400;
const CUES = { saved: 'ok', checked: 'tick', refused: 'error', doubtful: 'error', unpriced: 'notice' };
const SETTINGS = { theme: 'auto', scale: 1, volume: 0.5, language: 'zh-CN', lock: 0, map: {} };

class Page {
  constructor(root, live) {
    Object.assign(this, {
      root, live, view: 'boot', s: null, session: null, gateway: {}, page: {}, place: {}, tables: {}, told: '', dialog: null,
      error: null, pending: null, held: '', nudge: '', code: '', learning: '', noPhoto: false, shot: 0, skew: 0, shownAt: 0, screenKey: '',
      busyAt: 0, touchedAt: 0,
    });
    this.seen = { dismissed: '', known: '', ...stored(sessionStorage, 'seen') };
    this.draft = { ...emptyDraft(), ...stored(sessionStorage, 'draft') };
    this.settings = { ...SETTINGS, ...stored(localStorage, 'settings') };
    this.forget();
    this.link = new Link({ heard: (message, isFirst) => this.hear(message, isFirst), changed: () => this.draw(), failed: () => this.recheck() });
  }

  get doc() {
    const { s, seen, draft: { look } } = this;
    if (!s) return { name: 'boot' };
    if (s.after && s.passage.id === seen.dismissed) return s.after;
    if (s.survivor && s.passage.id !== seen.known) return s.survivor;
    return mayLook(look, s) ? { ...s.screen, name: look, title: s.titles[look], step: look === 'plate' ? 1 : 2, blocks: [] } : s.screen;
  }

  get shown() { return this.view === 'lane' ? this.doc.name : this.view; }
  get isBusy() { return !!this.pending || !!this.s?.busy || (!!this.link.lane && !this.link.isUp); }
  get isMine() { return !this.s?.passage || this.s.state === 'saved' || (this.sells && this.s.passage.owner === this.session.owner); }
  get sells() { return !!this.session?.allowed.includes('sell'); }

  can(command) { return !!this.s && this.sells && [...this.s.allowed, ...this.s.standing.allowed].includes(command); }

  now() { return Date.now() + this.skew; }

  busyFor() { return this.busyAt ? performance.now() - this.busyAt : 0; }

  busyWord() {
    return this.busyFor() < WORD_MS ? '' : this.s?.busy_word || t('Working…');
  }

  hear(message, isFirst) {
    this.skew = message.at_ms - Date.now();
    this.gateway = message.gateway;
    if (message.type === 'snapshot') return this.take(message, isFirst);
    if (message.rev > this.s?.rev) ask('GET', `/api/lanes/${this.s.lane}`).then(fresh => this.take(fresh), () => {});
    this.renew();
  }

  take(fresh, isFirst = false) {
    const old = this.s;
    // The newer wins; a new link always does.
    if (old && !isFirst && old.lane === fresh.lane && fresh.rev < old.rev) return;
    this.s = fresh;
    if (old && (old.state !== fresh.state || old.passage?.id !== fresh.passage?.id)) {
      this.error = null;
      this.nudge = '';
      if (this.draft.look) this.draft = { ...this.draft, look: '' };
      if (!['photo', 'help'].includes(this.dialog?.kind)) this.dialog = null;
      if (this.view === 'place' && ['why', 'master', 'stations'].includes(this.place.name)) this.view = 'lane';
      const cue = fresh.state === 'checked' && fresh.passage.findings.length ? 'notice' : CUES[fresh.state] ?? (fresh.problem && 'error');
      if (cue) play(cue, this.settings.volume);
    } else this.lift(fresh);
    const adopted = adopt(this.draft, fresh, this.isMine);
    // A new link may be to a gateway that knows of nothing.
    if (isFirst) this.shared = null;
    else if (adopted !== this.draft) this.shared = adopted;
    this.keep(adopted);
    if (fresh.state === 'saved' && old?.state !== 'saved') this.countDown(fresh, !old);
    this.draw();
  }

  /** What lasted is over once a snapshot says so, or says it in its own words. */
  lift({ problem, passage }) {
    const { error } = this;
    if (!error?.lasts || !(problem || this.can(error.of))) return;
    this.error = problem || !passage ? null : { ...error, lasts: false, level: 'warn', action: t('Over: press again') };
  }

  async recheck() {
    const session = await ask('GET', '/api/session').catch(() => null);
    if (session && !session.operator && this.view !== 'login') this.signedOut();
  }

  renew() {
    if (this.gateway.ui !== this.page.sha256 && this.shown === 'idle' && !this.dialog && !this.pending) location.reload();
  }

  keep(draft) {
    this.draft = draft;
    if (draft.passage) sessionStorage.setItem('draft', JSON.stringify(draft));
    else sessionStorage.removeItem('draft');
  }

  /** Another's vehicle is looked at only. */
  set(patch) {
    if (!this.isMine) return;
    this.error = null;
    this.nudge = '';
    this.keep({ ...this.draft, ...patch });
    this.draw();
  }

  see(patch) {
    this.seen = { ...this.seen, ...patch };
    sessionStorage.setItem('seen', JSON.stringify(this.seen));
    this.draw();
  }

  /** A page that opens long after has nothing to celebrate. */
  countDown(s, isOpening) {
    if (isOpening && s.last && this.now() - s.last.saved_at_ms > STAY_MS) return this.dismiss();
    setTimeout(() => { if (this.held !== s.passage.id && this.s?.passage?.id === s.passage.id && !this.s.problem) this.dismiss(); }, STAY_MS);
  }

  hold() {
    this.held = this.s.passage.id;
    this.draw();
  }

  dismiss() {
    if (this.s?.state !== 'saved') return;
    this.keep(emptyDraft());
    this.see({ dismissed: this.s.passage.id });
  }

  draw() {
    if (this.link.isMissed && !this.wasMissed) play('lost', this.settings.volume);
    this.wasMissed = this.link.isMissed;
    this.busyAt = this.pending || this.s?.busy ? this.busyAt || performance.now() : 0;
    const key = [this.shown, this.place.doc?.title, this.place.doc?.primary?.label, this.dialog?.kind, this.s?.passage?.id, this.doc.title].join();
    const isNew = key !== this.screenKey;
    if (isNew) this.shownAt = performance.now();
    this.screenKey = key;
    this.dress();
    render(template(this), this.root);
    if (isNew) this.announce();
  }

  dress() {
    const { theme, scale, language } = this.settings;
    const hour = hourNow(this.now());
    const isNight = { night: true, clock: hour < 7 || hour >= 19, auto: matchMedia('(prefers-color-scheme: dark)').matches }[theme];
    const { dataset } = document.documentElement;
    speak(language);
    // Not in the middle of a vehicle.
    if (!dataset.theme || theme !== 'clock' || this.shown === 'idle') dataset.theme = isNight ? 'night' : 'day';
    Object.assign(dataset, { scale, rev: this.s?.rev ?? '' });
    document.body.dataset.training = this.s?.is_training ? t('PRACTICE') : '';
  }

  announce() {
    const scope = this.root.querySelector('.dialog') ?? this.root;
    this.live.textContent = scope.querySelector('h1')?.textContent ?? '';
    const start = scope.querySelector('[data-start]') ?? (this.dialog && scope);
    if (start) start.focus();
    else document.activeElement?.blur();
  }

  press(act) {
    if (performance.now() - this.shownAt >= GUARD_MS && !this.pending) act();
  }

  alert(fault) { return alert(this, fault); }

  may(name) { return !!this.s && DEEDS[name][0](this); }

  act(name) {
    if (name === 'primary') return this.root.querySelector(`${this.dialog ? '.dialog' : '.shell'} [data-primary]:not(:disabled)`)?.click();
    if (name === 'cancel') return this.escape();
    if (name === 'help') return this.dialog ? undefined : this.open('help');
    if (this.dialog || this.view !== 'lane' || !this.may(name)) return name === 'back' && this.shown === 'plate' ? this.keyPlate('退') : undefined;
    return DEEDS[name][1](this);
  }

  fail(fault) {
    this.error = fault;
    play('error', this.settings.volume);
    this.draw();
  }

  async doing(name, work) {
    if (this.pending) return null;
    Object.assign(this, { pending: name, error: null });
    this.draw();
    const later = setTimeout(() => this.draw(), WORD_MS);
    try {
      return await work();
    } catch (fault) {
      fault.of = name;
      this.stumble(fault);
      return null;
    } finally {
      clearTimeout(later);
      this.pending = null;
      this.draw();
    }
  }

  stumble(fault) {
    if (!(fault instanceof Refusal)) return this.fail({ code: 'E-401', detail: t('No answer: perhaps done, perhaps not') });
    if (fault.snapshot) this.take(fault.snapshot);
    if (fault.code === 'session.missing') this.signedOut();
    this.fail(fault);
  }

  /** So that a killed page goes on, and another screen sees it. */
  async share() {
    const { draft, s } = this;
    if (draft === this.shared || !this.link.isUp || !this.isMine || draft.passage !== s?.passage?.id) return;
    this.shared = draft;
    await ask('PUT', `/api/lanes/${s.lane}/draft`, draft).catch(fault => { if (!(fault instanceof Refusal)) this.shared = null; });
  }

  tick() {
    this.share();
    const idleFor = performance.now() - this.touchedAt;
    if (this.settings.lock && this.shown === 'idle' && idleFor > this.settings.lock * 60_000) this.lock();
    if (this.pending || this.s?.busy || ['boot', 'idle'].includes(this.shown)) this.draw();
  }
}

Object.assign(Page.prototype, deeds);

function stored(storage, name) {
  try {
    return JSON.parse(storage.getItem(name));
  } catch {
    return null;
  }
}

export const app = new Page(document.getElementById('app'), document.getElementById('live'));
addEventListener('contextmenu', event => event.preventDefault());
addEventListener('pointerdown', event => {
  unlock();
  app.touchedAt = performance.now();
  if (app.shown === 'saved' && !event.target.closest('button')) app.hold();
});
listen(app);
setInterval(() => app.tick(), 500);
app.draw();
app.start();
