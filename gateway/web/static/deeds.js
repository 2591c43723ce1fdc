/** What a person can do. */
import { ask, pause } from './link.js';
import { byCode, press } from './plate.js';
import { axlesOf, before, classOf, edited, fenOf, isTruck, kilosOf, plateOf, plateReady, reasonOf, typeOf } from './state.js';
import { fill, keyed, learn, t } from './text.js';
import { unlock } from './sound.js';

export const API = 1;
const HEX_LENGTH = 8;

const can = command => app => app.can(command);
const may = command => app => app.isMine && app.can(command);
const send = command => app => app.send({ command });
const why = list => app => app.go('why', { list });

/** When it may be done, and how. Keys, buttons and the help page read this. */
export const DEEDS = {
  primary: [],
  cancel: [app => app.isMine && (app.can('cancel') || app.can('suspend')), why('cancel')],
  back: [app => app.isMine && !!before(app.shown, app.s), app => app.set({ look: before(app.shown, app.s) })],
  more: [app => app.shown === 'plate', app => app.keyPlate('更多')],
  help: [],
  read: [can('read'), app => app.read()],
  plate: [may('submit_plate'), app => app.set({ look: 'plate' })],
  photo: [app => app.shown === 'plate' && app.isMine, app => app.shootAgain()],
  vehicle: [may('classify'), app => app.set({ look: 'vehicle' })],
  class: [may('classify'), app => { app.set({ look: 'vehicle' }); app.open('pick', { title: t('class'), pairs: app.pairsOf('vehicle_classes'), then: code => app.set({ class: code }) }); }],
  weigh: [app => app.shown === 'vehicle' && app.isMine && isTruck(typeOf(app.draft, app.s)), app => app.open('weigh')],
  quote: [may('quote'), send('quote')],
  minimum: [may('minimum_fare'), app => app.go('master', { command: 'minimum_fare' })],
  save: [app => app.can('save') && app.isMine && app.shown === 'fare', app => app.press(() => app.send({ command: 'save' }))],
  suspend: [app => app.can('suspend') && app.isMine, send('suspend')],
  prove: [may('prove'), send('prove')],
  handOver: [may('hand_over'), why('handover')],
  cardGone: [may('hand_over'), why('gone')],
  override: [may('override'), app => app.go('master', { command: 'override', reason: '' })],
  stations: [may('confirm_entry'), app => app.go('stations')],
  entryCard: [app => app.isMine && app.can('confirm_entry') && app.s.policy.hex_from_card && !!app.cardHex(), app => app.confirmEntry('card', app.cardHex())],
  noPhoto: [may('submit_plate'), why('photo')],
  takeOver: [app => !app.isMine && app.session.owner === 'booth' && app.can('suspend'), app => app.open('sure', { text: t('What it has not sent is lost.'), then: () => app.takeOver() })],
  settle: [may('settle_by_hand'), app => app.go('master', { command: 'settle_by_hand', means: app.draft.means, reason: reasonOf(app.draft, app.s), amount_fen: app.draft.means === 'unpaid' ? 0 : fenOf(app.draft, app.s) })],
  entry: [app => app.can('confirm_entry') && app.isMine && app.draft.hex.length === HEX_LENGTH, app => app.confirmEntry('typed', app.draft.hex)],
  next: [app => app.s.state === 'saved', app => app.dismiss()],
  stay: [app => app.s.state === 'saved' && app.held !== app.s.passage.id && !app.s.problem, app => app.hold()],
  goOn: [app => app.isMine, app => app.see({ known: app.s.passage.id })],
  devices: [() => true, app => app.go('devices')],
  history: [() => true, app => app.go('history')],
  menu: [() => true, app => app.go('menu')],
  standing: [() => true, app => app.go('standing')],
  openLane: [can('open_lane'), send('open_lane')],
  lock: [app => app.shown === 'idle', app => app.lock()],
};

export const deeds = {
  async start() {
    for (; !this.session; await pause(700)) {
      this.page = await ask('GET', '/api/ui').catch(() => this.page);
      learn(this.page.words, this.page.english);
      this.session = await ask('GET', '/api/session').catch(() => null);
    }
    if (this.page.api === API && !this.page.wrong.length) return this.arrive();
    return this.draw();
  },

  async arrive() {
    if (!this.session.operator) return this.signedOut();
    const names = ['stations', 'vehicle_types', 'vehicle_classes', 'colours', 'reasons'];
    const tables = await Promise.all(names.map(name => ask('GET', `/api/tables/${name}`).then(({ rows }) => rows, () => [])));
    names.forEach((name, place) => { this.tables[name] = tables[place]; });
    if (this.seen.locked) return this.lock();
    if (this.session.shift) return this.enter(this.session.shift.lane);
    return this.go('shift');
  },

  show(view, more) {
    Object.assign(this, { view, error: null, dialog: null, ...more });
    this.draw();
  },

  enter(lane) {
    this.show('lane', { touchedAt: performance.now() });
    this.link.open(lane);
  },

  async signIn() {
    const { operator, password } = this.secret;
    if (!password) return this.root.querySelector('input[name=password]').focus();
    const session = await this.doing('work', () => ask('POST', '/api/session', { operator, password }));
    this.secret = { operator: session ? '' : operator, password: '', field: 'password' };
    if (!session) return this.draw();
    unlock();
    this.session = session;
    this.see({ locked: false });
    return this.arrive();
  },

  lock() {
    this.show('locked', { secret: { operator: this.session.operator, password: '', field: 'password' } });
    this.see({ locked: true });
  },

  async signOut() {
    await this.doing('work', () => ask('DELETE', '/api/session'));
    this.signedOut();
  },

  signedOut() {
    this.link.open('');
    this.forget();
    this.see({ locked: false });
    this.show('login', { s: null, session: null });
  },

  /** Numbers and passwords are kept nowhere. */
  forget() { this.secret = { operator: '', password: '', field: 'operator' }; },

  go(name, query = {}) {
    const trail = this.view === 'place' && this.place.name !== 'menu' ? [...this.place.trail, this.place] : [];
    this.forget();
    this.show('place', { place: { name, query, trail, doc: null } });
    return this.load();
  },

  async load() {
    const { place } = this;
    const query = new URLSearchParams({ lane: this.s?.lane ?? '', ...place.query });
    const doc = await ask('GET', `/api/places/${place.name}?${query}`).catch(fault => this.stumble(fault));
    if (this.place !== place || this.view !== 'place') return;
    place.doc = doc ?? place.doc ?? { title: '', blocks: [] };
    this.draw();
    if (doc?.is_auto) return this.run(doc.primary);
    if (doc?.again_ms) setTimeout(() => { if (this.place === place && this.view === 'place' && !this.pending) this.load(); }, doc.again_ms);
  },

  narrow(query) {
    this.place = { ...this.place, query: { ...this.place.query, ...query } };
    return this.load();
  },

  leave() {
    this.learning = '';
    if (this.place.trail.length) {
      this.show('place', { place: this.place.trail.at(-1) });
      return this.load();
    }
    return this.s ? this.show('lane') : this.signOut();
  },

  /** A button of the gateway's making. */
  async run(action) {
    const { go, deed, value, enter, resume, with: query, command, needs_credentials: isGuarded, method, path, body, key, sure, then, tell, leaves } = action;
    const { operator, password } = this.secret;
    if (go) {
      if (enter) this.enter(enter);
      return this.go(go);
    }
    if (deed) return this.show(value ? 'lane' : this.view) ?? this[deed](value);
    if (query) return this.narrow(query);
    if (resume) return this.resume(resume);
    if (sure) return this.open('sure', { text: sure, then: () => { this.close(); this.run({ ...action, sure: '' }); } });
    if (isGuarded && !password) return this.root.querySelector('input[name=password]').focus();
    if (command) return this.authorise(isGuarded ? { ...command, operator, password } : command);
    if (!method) return this.enter(enter);
    const whole = password ? { ...body, ...operator && { operator }, password } : body;
    const told = await this.doing('work', () => ask(method, path, whole, key && { 'idempotency-key': key }));
    this.forget();
    if (told && leaves) return this.leave();
    if (told && tell) this.told = fill(tell, told);
    if (told && enter) return this.enter(enter);
    // Refused: the next press is another question. Lost: it is the same.
    return this.view === 'place' && (told || this.error?.code !== 'E-401') ? this.narrow(told && then) : this.draw();
  },

  async authorise(command) {
    const isDone = await this.send(command);
    this.secret = { ...this.secret, password: '', field: 'password' };
    return isDone ? this.show('lane') : this.draw();
  },

  open(kind, more) { this.forget(); this.show(this.view, { dialog: { kind, ...more } }); },

  close() { this.forget(); this.show(this.view); },

  configure(patch) {
    this.settings = { ...this.settings, ...patch };
    localStorage.setItem('settings', JSON.stringify(this.settings));
    // Most words are the gateway's, and were said in the other language.
    if (patch.language) return location.reload();
    return this.draw();
  },

  /** Made for what the person saw: asked again only if nothing but the revision moved. */
  async send(body) {
    if (this.isBusy) return false;
    const picture = s => JSON.stringify([s.state, s.passage, s.problem]);
    const seen = picture(this.s);
    const fresh = await this.doing(body.command, async () => {
      try {
        return await this.link.command(this.s.lane, this.s.rev, body);
      } catch (fault) {
        if (fault.code !== 'flow.stale' || picture(fault.snapshot) !== seen) throw fault;
        this.take(fault.snapshot);
        return this.link.command(this.s.lane, this.s.rev, body);
      }
    });
    if (fresh) this.take(fresh);
    return !!fresh;
  },

  read() {
    if (this.s.state === 'saved') this.dismiss();
    return this.send({ command: 'read' });
  },

  submitPlate(more) {
    const { draft: { colour, photo, typed, ...draft }, s } = this;
    return this.send({ command: 'submit_plate', plate: plateOf(draft), colour, photo, source: typed || !s.passage.lpr ? 'typed' : 'lpr', ...more });
  },

  /** The camera was asked in vain: it is asked anew by the command that asks it. */
  shootAgain() {
    this.shot += 1;
    this.set({ photo: null });
    if (this.s.problem?.code === 'E-203' && plateReady(this.draft)) this.submitPlate();
  },

  async submitVehicle() {
    const { draft, s } = this;
    const chosen = { vehicle_type: typeOf(draft, s), vehicle_class: classOf(draft, s) };
    const { type, class: group } = s.passage.vehicle;
    const source = draft.kilos ? { source: 'typed', reason: draft.weightReason } : { source: 'scale' };
    const weight = { axle_count: axlesOf(chosen.vehicle_type, draft, s), weight_kg: kilosOf(draft, s), ...source };
    const isChosen = s.state === 'classified' && !draft.look && type === chosen.vehicle_type && group === chosen.vehicle_class;
    if (!isChosen && !(await this.send({ command: 'classify', ...chosen }))) return;
    if (isTruck(chosen.vehicle_type) && this.can('weigh') && !(await this.send({ command: 'weigh', ...weight }))) return;
    if (this.s.state === 'classified' && this.can('quote')) await this.send({ command: 'quote' });
  },

  async confirmEntry(source, station) {
    this.dialog = null;
    if (await this.send({ command: 'confirm_entry', station_hex: station, source })) this.set({ hex: '' });
  },

  async resume(passage) {
    this.see({ known: passage });
    if (await this.send({ command: 'resume', passage })) this.show('lane');
  },

  async takeOver() {
    const { id } = this.s.passage;
    this.close();
    if (await this.send({ command: 'suspend' })) await this.resume(id);
  },

  photoUrl() {
    const photo = this.draft.photo ?? (this.shown === 'plate' ? null : this.s.passage?.photo);
    return photo ? `/api/photos/${photo}` : `/api/lanes/${this.s.lane}/camera.jpg?${this.s.passage?.id}-${this.shot}`;
  },

  photoFailed(isFailed) {
    if (this.noPhoto === isFailed) return;
    this.noPhoto = isFailed;
    this.draw();
  },

  /** Without its EXIF data, named by its own hash. */
  async upload(file) {
    if (!file) return;
    const photo = await this.doing('photo', async () => {
      const jpeg = await shrunk(file);
      const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', await jpeg.arrayBuffer()));
      const name = [...hash].map(byte => byte.toString(16).padStart(2, '0')).join('');
      await ask('PUT', `/api/lanes/${this.s.lane}/photos/${name}`, jpeg);
      return name;
    });
    if (photo) this.set({ photo });
  },

  cardHex() {
    const { entry } = this.s.passage;
    return entry?.station_hex ?? this.tables.stations.find(row => row.name === entry?.station_name)?.hex;
  },

  pairsOf(table) { return this.tables[table].map(({ code, name }) => [code, name]); },

  nameIn(table, code) { return this.tables[table].find(row => row.code === code)?.name ?? code; },

  reasons(list) { return this.tables.reasons.filter(row => row.list === list).map(({ name }) => [name, name]); },

  setEditor(editor) { this.set(edited(this.draft, editor)); },

  keyPlate(char) {
    const { editor } = this.draft;
    const changed = press(editor, char);
    this.code = '';
    if (changed !== editor) return this.setEditor(changed);
    this.nudge = editor.chars.length > 6 ? 'Full: tap a cell, or +new' : 'Not at this place';
    return this.draw();
  },

  keyCode(char) {
    const { at, page } = this.draft.editor;
    if (char === '/') this.code = this.code ? '' : '/';
    else if (/\d/.test(char) && (this.code || (at === 0 && !page))) this.code += char;
    else return false;
    const [digits] = /\d\d/.exec(this.code) ?? [];
    const found = digits && byCode(at, digits);
    if (digits) this.code = '';
    if (found) this.keyPlate(found);
    this.draw();
    return true;
  },

  keyHex(char) {
    if (this.isBusy) return;
    const { hex: old } = this.draft;
    const station = keyed(old.length < HEX_LENGTH || '退清'.includes(char) ? old : '', char, HEX_LENGTH);
    this.set({ hex: station });
    if (station.length === HEX_LENGTH) this.confirmEntry('typed', station);
  },

  keyDigits(name, char) { this.set({ [name]: keyed(this.draft[name], char, 7).replace(/^0+/, '') }); },

  keyIn(patch) {
    Object.assign(this, { error: null, secret: { ...this.secret, ...patch } });
    this.draw();
  },

  keySecret(char) {
    const { field } = this.secret;
    this.keyIn({ [field]: keyed(this.secret[field], char, 40) });
  },

  typeChar(char) {
    const digit = name => /^[0-9退清]$/.test(char) && (this.keyDigits(name, char), true);
    if (this.dialog) return this.dialog.kind === 'weigh' && digit('kilos');
    if (this.view !== 'lane' || this.pending || !this.isMine) return false;
    if (this.shown === 'plate') return this.keyCode(char) || (this.keyPlate(char), true);
    if (this.shown === 'fare' && this.can('confirm_entry')) return /^[0-9A-F退清]$/.test(char) && (this.keyHex(char), true);
    return this.shown === 'held' && digit('fen');
  },

  pickOption(n) {
    const option = this.root.querySelectorAll(`${this.dialog ? '.dialog' : '.work'} [data-option]`)[n - 1];
    option?.click();
    return !!option;
  },

  escape() {
    if (this.dialog) return this.close();
    if (this.view === 'lane') return this.s && !this.pending && this.may('cancel') && DEEDS.cancel[1](this);
    return this.view === 'place' && this.leave();
  },

  learn(action) {
    this.learning = this.learning === action ? '' : action;
    this.draw();
  },

  learned(code) {
    if (!this.learning) return false;
    if (code !== 'Escape') this.configure({ map: { ...this.settings.map, [code]: this.learning } });
    this.learn('');
    return true;
  },
};

async function shrunk(file) {
  const image = await createImageBitmap(file);
  const factor = Math.min(1, 1600 / Math.max(image.width, image.height));
  const canvas = new OffscreenCanvas(Math.round(image.width * factor), Math.round(image.height * factor));
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: 'image/jpeg', quality: 0.8 });
}
