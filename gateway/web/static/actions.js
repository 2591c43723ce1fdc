// @ts-check
/** What a person can do, one method a deed. Mixed into App: each speaks to the gateway or edits the draft. */
import { ask, Refusal } from './link.js';
import { byCode, press } from './plate.js';
import { axlesOf, classOf, edited, isTruck, plateSource, typeOf } from './state.js';
import { t } from './text.js';
import { unlock } from './sound.js';

/** @typedef {import('./app.js').App} App */

const TABLES = ['stations', 'vehicle_types', 'vehicle_classes', 'colours'];
/** @type {Record<string, string>} what each place around the lane asks for */
const SOURCES = { versions: '/api/parameters', pairing: '/api/pairings', sync: '/api/sync' };
const HEX_LENGTH = 8;

export const actions = /** @type {any} */ ({
  // ---- coming in ----

  /** @this {any} */
  async start() {
    for (;;) {
      this.session = await ask('GET', '/api/session').catch(() => null);
      if (this.session) break;
      await new Promise(again => { setTimeout(again, 700); });
    }
    return this.session.operator ? this.arrive() : this.signedOut();
  },

  /** @this {any} */
  async arrive() {
    this.lanes = (await ask('GET', '/api/lanes').catch(() => [])) ?? [];
    await Promise.all(TABLES.map(async name => {
      const rows = await ask('GET', `/api/tables/${name}`).catch(() => ({}));
      this.tables[name] = rows.rows ?? [];
    }));
    if (this.session.shift) return this.enter(this.session.shift.lane);
    this.choice.lane = this.lanes.find((/** @type {any} */ each) => each.enabled)?.lane ?? '';
    this.view = 'shift';
    return this.draw();
  },

  /** @this {any} @param {string} lane */
  enter(lane) {
    this.error = null;
    this.view = 'lane';
    this.link.open(lane);
    this.draw();
  },

  /** @this {any} */
  async signIn() {
    const { operator, password } = this.secret;
    const session = await this.doing('signIn', () => ask('POST', '/api/session', { operator, password }));
    this.secret = { operator: session ? '' : operator, password: '', field: session ? 'operator' : 'password' };
    if (!session) return this.draw();
    unlock();
    this.session = session.operator ? session : await ask('GET', '/api/session');
    return this.arrive();
  },

  /** Enter after the number goes on to the password. @this {any} */
  toPassword() { /** @type {HTMLInputElement | null} */ (this.root.querySelector('input[name=password]'))?.focus(); },

  /** Twins only: a vehicle drives up. @this {any} @param {string} preset */
  async practise(preset) {
    const put = await this.doing('practise', () => ask('POST', '/bench/vehicle', { preset }));
    if (put) this.practised = put;
    else if (this.error?.code === 'not_found') this.practised = { gone: true };
    this.draw();
  },

  /** @this {any} */
  async signOut() {
    await this.doing('signOut', () => ask('DELETE', '/api/session'));
    this.signedOut();
  },

  /** @this {any} */
  signedOut() {
    this.link.open('');
    this.s = null;
    this.session = null;
    this.dialog = null;
    this.view = 'login';
    this.draw();
  },

  /** @this {any} */
  async startShift() {
    const { lane, shift } = this.choice;
    const opened = await this.doing('shift', () => ask('POST', '/api/shifts', { lane, shift }));
    if (opened) this.enter(lane);
  },

  /** @this {any} */
  async closeShift() {
    const id = this.s.shift?.id ?? this.data.rows?.shift?.id;
    const closed = await this.doing('shift', () => ask('POST', `/api/shifts/${id}/close`, {}));
    if (!closed) return;
    this.dialog = null;
    await this.signOut();
  },

  // ---- moving about ----

  /** @this {any} @param {string} view @param {string} [id] */
  async go(view, id = '') {
    this.view = view;
    this.error = null;
    this.data = { id, isLoading: true, filter: { plate: '', state: '' }, rows: null, next: null, offer: null };
    this.draw();
    await this.load();
  },

  /** @this {any} */
  async load() {
    const { data } = this;
    const rows = await this.fetchRows(data).catch((/** @type {any} */ fault) => { this.stumble(fault); return null; });
    if (this.data !== data) return;
    Object.assign(data, { isLoading: false }, rows);
    this.draw();
  },

  /** @this {any} @param {any} data */
  async fetchRows(data) {
    if (this.view === 'history') return this.fetchHistory(data);
    if (this.view === 'passage') {
      const path = `/api/passages/${encodeURIComponent(data.id)}`;
      const [passage, timeline] = await Promise.all([ask('GET', path), ask('GET', `${path}/timeline`)]);
      return { rows: { passage, entries: timeline.entries } };
    }
    if (this.view === 'shiftEnd') return { rows: this.s.shift && await ask('GET', `/api/shifts/${this.s.shift.id}`) };
    const source = SOURCES[this.view];
    return source ? { rows: await ask('GET', source) } : {};
  },

  /** @this {any} @param {any} data @param {string} [before] */
  async fetchHistory(data, before = '') {
    const query = new URLSearchParams({ limit: '20', ...data.filter, before });
    [...query].forEach(([name, value]) => { if (!value) query.delete(name); });
    const answer = await ask('GET', `/api/passages?${query}`);
    return { rows: before ? [...data.rows, ...answer.passages] : answer.passages, next: answer.next };
  },

  /** @this {any} */
  async loadMore() {
    Object.assign(this.data, await this.fetchHistory(this.data, this.data.next).catch(() => ({})));
    this.draw();
  },

  /** @this {any} @param {Record<string, string>} patch */
  filter(patch) {
    this.data = { ...this.data, filter: { ...this.data.filter, ...patch } };
    this.load();
  },

  /** @this {any} */
  leave() {
    this.error = null;
    this.learning = '';
    if (this.view === 'passage') return this.go('history');
    if (this.view === 'shift') return this.signOut();
    this.view = this.s ? 'lane' : 'shift';
    return this.draw();
  },

  /** @this {any} @param {Record<string, any>} dialog */
  open(dialog) {
    this.error = null;
    this.dialog = dialog;
    this.secret = { operator: '', password: '', field: 'operator' };
    this.draw();
  },

  /** @this {any} */
  close() {
    this.dialog = null;
    this.error = null;
    this.secret = { operator: '', password: '', field: 'operator' };
    this.draw();
  },

  /** @this {any} @param {Record<string, any>} patch */
  choose(patch) {
    this.choice = { ...this.choice, ...patch };
    this.error = null;
    this.draw();
  },

  /** @this {any} @param {Record<string, any>} patch */
  configure(patch) {
    this.settings = { ...this.settings, ...patch };
    localStorage.setItem('settings', JSON.stringify(this.settings));
    this.draw();
  },

  // ---- commands ----

  /** One command, made for what the person saw. If only the number of the snapshot moved on meanwhile,
   * it is asked again once; anything else they have to look at first.
   * @this {any} @param {Record<string, any>} body @returns {Promise<boolean>} */
  async send(body) {
    if (this.isBusy || !this.isMine) return false;
    const seen = picture(this.s);
    const fresh = await this.doing(body.command, async () => {
      try {
        return await this.link.command(this.s.lane, this.s.rev, body);
      } catch (fault) {
        if (!(fault instanceof Refusal) || fault.code !== 'flow.stale' || !fault.snapshot || picture(fault.snapshot) !== seen) throw fault;
        this.take(fault.snapshot);
        return this.link.command(this.s.lane, this.s.rev, body);
      }
    });
    if (fresh) this.take(fresh);
    return !!fresh;
  },

  /** @this {any} */
  read() {
    if (this.s.state === 'saved') this.dismiss();
    return this.send({ command: 'read' });
  },

  /** @this {any} @param {string} [reason] why there is no photo */
  submitPlate(reason = '') {
    const { draft, s } = this;
    const body = { command: 'submit_plate', plate: draft.editor.chars.join(''), colour: draft.colour, photo: draft.photo, source: plateSource(draft, s) };
    return this.send(reason ? { ...body, no_photo_reason: reason } : body);
  },

  /** Type, then weight if there must be one, then the fare: one press. @this {any} */
  async submitVehicle() {
    const { draft, s } = this;
    const type = typeOf(draft, s);
    const axles = axlesOf(type, draft, s);
    const kilos = this.kilos();
    const isChosen = s.state === 'classified' && !draft.look && s.passage.vehicle.type === type && s.passage.vehicle.class === classOf(draft, s);
    if (!isChosen && !(await this.send({ command: 'classify', vehicle_type: type, vehicle_class: classOf(draft, s) }))) return;
    if (isTruck(type) && this.can('weigh')) {
      const weight = draft.kilos ? { source: 'typed', reason: draft.weightReason } : { source: 'scale' };
      if (!(await this.send({ command: 'weigh', axle_count: axles, weight_kg: kilos, ...weight }))) return;
    }
    if (this.s.state === 'classified' && this.can('quote')) await this.send({ command: 'quote' });
  },

  /** @this {any} @param {'typed' | 'card' | 'searched'} source @param {string} [hex] */
  async confirmEntry(source, hex = '') {
    const station = hex || (source === 'card' ? this.cardHex() : this.draft.hex);
    if (await this.send({ command: 'confirm_entry', station_hex: station, source })) this.set({ hex: '' });
  },

  /** @this {any} @param {{hex: string}} row */
  chooseStation(row) {
    this.dialog = null;
    return this.confirmEntry('searched', row.hex);
  },

  /** The master's number and password serve one command and are forgotten. @this {any} */
  async approve() {
    const { operator, password } = this.secret;
    const { purpose } = this.dialog;
    const { draft } = this;
    const more = purpose === 'override' ? { reason: draft.reason } : purpose === 'settle_by_hand'
      ? { means: draft.means, amount_fen: draft.means === 'unpaid' ? 0 : Number(draft.fen), reason: draft.reason } : {};
    const isDone = await this.send({ command: purpose, operator, password, ...more });
    this.secret = { operator: isDone ? '' : operator, password: '', field: 'password' };
    if (isDone) this.dialog = null;
    this.draw();
  },

  /** A command that ends what lies open. @this {any} @param {Record<string, any>} body */
  async finish(body) {
    if (await this.send(body)) this.close();
  },

  /** @this {any} @param {string} reason */
  giveReason(reason) {
    const { purpose } = this.dialog;
    if (purpose !== 'no_photo') return this.finish({ command: purpose, reason });
    this.dialog = null;
    return this.submitPlate(reason);
  },

  /** @this {any} @param {string} passage */
  async resume(passage) {
    if (await this.send({ command: 'resume', passage })) this.leave();
  },

  // ---- the photo ----

  /** @this {any} */
  photoUrl() {
    const photo = this.draft.photo ?? (this.screen === 'plate' ? null : this.s.passage?.photo);
    return photo ? `/api/photos/${photo}` : `/api/lanes/${this.s.lane}/camera.jpg?${this.s.passage?.id ?? ''}-${this.shot}`;
  },

  /** @this {any} @param {boolean} isFailed */
  photoFailed(isFailed) {
    if (this.noPhoto === isFailed) return;
    this.noPhoto = isFailed;
    this.draw();
  },

  /** @this {any} */
  retake() {
    this.shot += 1;
    this.set({ photo: null });
  },

  /** From a handheld's camera: made small, without its EXIF data, named by its own hash.
   * @this {any} @param {File | undefined} file */
  async upload(file) {
    if (!file) return;
    const photo = await this.doing('photo', async () => {
      const jpeg = await shrunk(file);
      const hash = [...new Uint8Array(await crypto.subtle.digest('SHA-256', await jpeg.arrayBuffer()))]
        .map(byte => byte.toString(16).padStart(2, '0')).join('');
      await ask('PUT', `/api/lanes/${this.s.lane}/photos/${hash}`, jpeg);
      return hash;
    });
    if (photo) this.set({ photo });
  },

  // ---- small facts ----

  /** Kilograms to be submitted, null if there are none to trust. @this {any} */
  kilos() {
    const { scale } = this.s.devices;
    if (this.draft.kilos) return Number(this.draft.kilos);
    if (this.s.passage.vehicle.weight_kg != null && this.s.state !== 'classified') return this.s.passage.vehicle.weight_kg;
    return scale?.weight_kg != null && scale.is_stable !== false ? scale.weight_kg : null;
  },

  /** @this {any} */
  cardHex() {
    const { entry } = this.s.passage;
    return entry?.station_hex ?? this.tables.stations.find((/** @type {any} */ row) => row.name === entry?.station_name)?.hex ?? '';
  },

  /** @this {any} @param {number} code */
  typeName(code) {
    return this.tables.vehicle_types.find((/** @type {any} */ row) => row.code === code)?.name ?? String(code);
  },

  /** @this {any} */
  className() {
    return this.tables.vehicle_classes.find((/** @type {any} */ row) => row.code === classOf(this.draft, this.s))?.name ?? '';
  },

  /** @this {any} @returns {{code: number, name: string}[]} */
  colourRows() {
    if (this.tables.colours.length) return this.tables.colours;
    return [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12].map(code => ({ code, name: t(`colour.${code}`) }));
  },

  // ---- typing ----

  /** @this {any} @param {import('./plate.js').Editor} editor */
  setEditor(editor) { this.set(edited(this.draft, editor)); },

  /** @this {any} @param {string} key */
  keyPlate(key) {
    const before = this.draft.editor;
    const after = press(before, key);
    this.codePrefix = '';
    if (after !== before) return this.setEditor(after);
    this.nudge = before.at >= before.chars.length && before.chars.length >= 7 ? 'plate.full' : 'plate.cannot';
    return this.draw();
  },

  /** Keypad codes: two digits at the first place are a province, after / a letter.
   * @this {any} @param {string} char @returns {boolean} whether it was part of a code */
  keyCode(char) {
    const { at, page } = this.draft.editor;
    if (char === '/') this.codePrefix = this.codePrefix ? '' : '/';
    else if (/\d/.test(char) && (this.codePrefix || (at === 0 && !page))) this.codePrefix += char;
    else return false;
    const digits = this.codePrefix.replace('/', '');
    if (digits.length === 2) {
      const found = byCode(at, digits);
      this.codePrefix = '';
      if (found) this.keyPlate(found);
    }
    this.draw();
    return true;
  },

  /** The eighth digit asks. @this {any} @param {string} key */
  keyHex(key) {
    if (this.isBusy) return;
    const { hex } = this.draft;
    const fresh = key === '退' ? hex.slice(0, -1) : key === '清' ? '' : (hex.length < HEX_LENGTH ? hex : '') + key;
    this.set({ hex: fresh });
    if (fresh.length === HEX_LENGTH && key.length === 1 && key !== '退' && key !== '清') this.confirmEntry('typed');
  },

  /** @this {any} @param {'kilos' | 'fen'} field @param {string} key @param {number} most */
  keyDigits(field, key, most) {
    const text = this.draft[field];
    const fresh = key === '退' ? text.slice(0, -1) : key === '清' ? '' : (text + key).replace(/^0+/, '').slice(0, most);
    this.set({ [field]: fresh });
  },

  /** @this {any} @param {Record<string, string>} patch */
  keyIn(patch) {
    this.secret = { ...this.secret, ...patch };
    this.error = null;
    this.draw();
  },

  /** @this {any} @param {string} key */
  keySecret(key) {
    const { field } = this.secret;
    const text = this.secret[field];
    this.keyIn({ [field]: key === '退' ? text.slice(0, -1) : key === '清' ? '' : text + key });
  },

  /** @this {any} @param {string} key */
  keyQuery(key) {
    const { query } = this.dialog;
    this.dialog = { ...this.dialog, query: key === '退' ? query.slice(0, -1) : key === '清' ? '' : query + key.toLowerCase() };
    this.draw();
  },

  /** A character from a keyboard: who wants it now? @this {any} @param {string} char @returns {boolean} */
  typeChar(char) {
    if (this.dialog?.kind === 'weigh') return isDigit(char) && (this.keyDigits('kilos', char, 6), true);
    if (this.dialog || this.view !== 'lane' || !this.s || this.pending) return false;
    if (this.screen === 'plate') return this.keyCode(char) || (this.keyPlate(char), true);
    if (this.screen === 'fare' && this.can('confirm_entry')) return /^[0-9A-F退清]$/.test(char) && (this.keyHex(char), true);
    if (this.screen === 'held') return isDigit(char) && (this.keyDigits('fen', char, 7), true);
    return false;
  },

  /** The n-th of a list. @this {any} @param {number} n @returns {boolean} */
  pickOption(n) {
    const scope = this.dialog ? '.dialog [data-option]' : '.work [data-option]';
    const option = document.querySelectorAll(scope)[n - 1];
    if (option instanceof HTMLElement) option.click();
    return !!option;
  },

  /** @this {any} @param {string} action */
  act(action) {
    if (action === 'primary') {
      const scope = this.dialog ? '.dialog' : '.shell';
      const button = document.querySelector(`${scope} [data-primary]:not(:disabled)`);
      if (button instanceof HTMLElement) return button.click();
      const next = document.querySelector('input[name=password]');
      return next instanceof HTMLElement && next.focus();
    }
    if (action === 'cancel') return this.escape();
    if (action === 'help') return this.dialog ? undefined : this.s && this.open({ kind: 'help' });
    if (this.dialog || this.view !== 'lane' || !this.s) return undefined;
    return this.deed(action);
  },

  /** @this {any} */
  escape() {
    if (this.dialog) return this.close();
    if (this.view === 'lane') return this.s && (this.can('cancel') || this.can('suspend')) && !this.pending ? this.open({ kind: 'cancel' }) : undefined;
    return this.view === 'login' || this.view === 'boot' ? undefined : this.leave();
  },

  /** Function keys. @this {any} @param {string} action */
  deed(action) {
    const { screen } = this;
    /** @type {Record<string, () => unknown>} */
    const deeds = {
      read: () => this.can('read') && this.read(),
      plate: () => this.can('submit_plate') && this.set({ look: 'plate' }),
      vehicle: () => this.can('classify') && this.set({ look: 'vehicle' }),
      class: () => this.can('classify') && this.set({ look: 'vehicle' }),
      photo: () => screen === 'plate' && this.retake(),
      weigh: () => screen === 'vehicle' && isTruck(typeOf(this.draft, this.s)) && this.open({ kind: 'weigh' }),
      quote: () => this.can('quote') && this.send({ command: 'quote' }),
      minimum: () => this.can('minimum_fare') && this.open({ kind: 'master', purpose: 'minimum_fare' }),
      save: () => screen === 'fare' && this.can('save') && this.press(() => this.send({ command: 'save' })),
      suspend: () => this.can('suspend') && this.send({ command: 'suspend' }),
      devices: () => this.go('devices'),
      back: () => screen === 'plate' ? this.keyPlate('退') : this.back(),
      more: () => screen === 'plate' && this.keyPlate('更多'),
    };
    return deeds[action]?.();
  },

  /** @this {any} */
  back() {
    const button = document.querySelector('[data-back]');
    return button instanceof HTMLElement && button.click();
  },

  /** @this {any} @param {string} action */
  learn(action) {
    this.learning = this.learning === action ? '' : action;
    this.draw();
  },

  /** @this {any} @param {string} code @returns {boolean} */
  learned(code) {
    if (!this.learning) return false;
    if (code !== 'Escape') this.configure({ map: { ...this.settings.map, [code]: this.learning } });
    this.learning = '';
    this.draw();
    return true;
  },

  // ---- handhelds ----

  /** @this {any} */
  async startPairing() {
    const offer = await this.doing('pairing', () => ask('POST', '/api/pairings', {}));
    if (!offer) return;
    this.data = { ...this.data, offer };
    this.draw();
    this.followPairing(offer.id);
  },

  /** @this {any} @param {string} id */
  async followPairing(id) {
    while (this.view === 'pairing' && this.data.offer?.id === id && this.now() < this.data.offer.expires_at_ms) {
      await new Promise(again => { setTimeout(again, 1500); });
      const rows = await ask('GET', '/api/pairings').catch(() => null);
      if (!rows || this.data.offer?.id !== id) continue;
      const mine = rows.pairings.find((/** @type {any} */ row) => row.id === id);
      this.data = { ...this.data, rows, offer: { ...this.data.offer, ...(mine ?? {}) } };
      this.draw();
    }
  },

  /** @this {any} @param {string} id */
  async confirmPairing(id) {
    const done = await this.doing('pairing', () => ask('POST', `/api/pairings/${id}/confirm`, {}));
    if (done !== null || !this.error) await this.go('pairing');
  },

  /** @this {any} @param {string} id */
  async revoke(id) {
    await this.doing('pairing', () => ask('DELETE', `/api/pairings/${id}`));
    if (!this.error) await this.go('pairing');
  },
});

const isDigit = (/** @type {string} */ char) => /^[0-9退清]$/.test(char);

/** What the person was looking at when they pressed. @param {any} s */
const picture = s => JSON.stringify([s.state, s.passage, s.problem]);

/** @param {File} file @returns {Promise<Blob>} at most 1600 px wide or high */
async function shrunk(file) {
  const image = await createImageBitmap(file);
  const factor = Math.min(1, 1600 / Math.max(image.width, image.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(image.width * factor);
  canvas.height = Math.round(image.height * factor);
  canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done, failed) => {
    canvas.toBlob(blob => (blob ? done(blob) : failed(new Error('no picture'))), 'image/jpeg', 0.8);
  });
}

