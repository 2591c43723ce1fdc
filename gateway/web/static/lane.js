/** What people key and choose on; the gateway makes the rest of each screen. */
import { API, DEEDS } from './deeds.js';
import { picture } from './dialogs.js';
import { alert, deed, trouble } from './frame.js';
import { capsOf } from './keys.js';
import { big, blocks, button, choices, credentials, deedOf, hint, html, key, nothing, NUMBERS, pad, picker } from './parts.js';
import * as rules from './plate.js';
import { axlesOf, classOf, doubts, fenOf, isTruck, kilosOf, plateOf, plateReady, reasonOf, typeOf, typeSaid } from './state.js';
import { t, tonnes, yuan } from './text.js';

const SLOW_MS = 5000;
const COLOURS = [0, 1, 4, 5, 3, 2];
const AXLES = [2, 3, 4, 5, 6];
const HEX = [...'123ABC456DEF7890退清'];

export const SCREENS = {
  boot(app) {
    const { api, wrong = [] } = app.page;
    const isOdd = app.session && (wrong.length || api !== API);
    const words = performance.now() > SLOW_MS ? 'The gateway is starting, about 20 s' : 'Connecting…';
    return { title: t('Toll lane'), look: 'center', body: big(t(isOdd ? 'Page files are not right: reload' : words)), bar: [isOdd ? button(t('Go on'), () => app.arrive()) : nothing], primary: isOdd && [t('Reload'), () => location.reload()] };
  },

  login: app => ({ title: t('Sign in'), look: 'login', body: html`${credentials(app, t('Number'))}`, primary: [t('Sign in'), () => app.signIn(), !app.secret.operator] }),

  locked: app => ({
    title: t('Locked'), look: 'login', body: html`${hint(`${app.session.name} ${app.session.operator}`)}${credentials(app)}`, bar: [button(t('Somebody else'), () => app.signOut())],
    primary: [t('Unlock'), () => app.signIn(), !app.secret.password],
  }),

  idle: app => ({ body: told(app) }),

  held(app) {
    const { draft, s } = app;
    const isUnpaid = draft.means === 'unpaid';
    const fen = fenOf(draft, s);
    const reason = reasonOf(draft, s);
    const pairs = app.reasons(s.state === 'disputed' ? 'gone' : 'handover');
    return {
      look: 'held', primary: [t('settle'), () => app.act('settle'), !reason || !(isUnpaid || fen) || !app.may('settle')],
      body: html`<div class="two"><div><h2>${t('Means')}</h2>${choices(t('Means'), ['cash', 'mobile', 'unpaid'].map(means => [means, t(means)]), draft.means, means => app.set({ means }))}
        <h2>${t('Reason')}</h2>${button(reason, () => app.open('pick', { title: t('Reason'), pairs, then: chosen => app.set({ reason: chosen }) }))}</div>
        <div><p class="figure">${yuan(isUnpaid ? 0 : fen)}</p>${pad(NUMBERS, char => app.keyDigits('fen', char), 'num', isUnpaid)}</div></div>`,
    };
  },

  plate(app) {
    const { draft } = app;
    const isUsual = COLOURS.includes(draft.colour);
    const radio = (colour, name, isChosen, act) => html`<button role="radio" class="colour c${colour}" aria-checked=${isChosen} @click=${act}>${name}</button>`;
    const paint = colour => app.set({ colour, colourTouched: true });
    return {
      look: 'plates', ownTrouble: true, primary: [t('Confirm plate'), () => app.submitPlate(), !plateReady(draft) || !app.isMine],
      side: html`<button class="photo" aria-label=${t('Enlarge')} @click=${() => app.open('photo')}>${picture(app)}</button>${deed(app, 'photo')}${blocks(app, app.s.side)}`,
      body: html`<div class="say"><button class="photo hand" aria-label=${t('Enlarge')} @click=${() => app.open('photo')}>${picture(app)}</button>${say(app)}</div>${cells(app)}
        <div class="colours" role="radiogroup" aria-label=${t('Colour')}>${COLOURS.map(colour => radio(colour, app.nameIn('colours', colour), colour === draft.colour, () => paint(colour)))}${radio(isUsual ? '' : draft.colour, isUsual ? t('more') : app.nameIn('colours', draft.colour), !isUsual,
          () => app.open('pick', { title: t('Colour'), pairs: app.pairsOf('colours'), then: paint }))}</div>${keys(app)}`,
      bar: ['cancel', 'suspend', crypto.subtle ? picker(t(draft.photo ? '✓ Taken' : 'Camera'), file => app.upload(file), { accept: 'image/*', capture: 'environment' }) : nothing],
    };
  },

  vehicle(app) {
    const { s, draft } = app;
    const type = typeOf(draft, s);
    const said = typeSaid(s);
    const nameOf = code => app.nameIn('vehicle_types', code);
    return {
      look: 'vehicles', primary: [t('Confirm vehicle'), () => app.submitVehicle(), type === null || !app.isMine || (isTruck(type) && kilosOf(draft, s) === null)],
      body: html`${said && type !== null && said !== type ? alert(app, { code: 'E-205', level: 'warn', detail: t('Chosen {chosen}, card {card}', { chosen: nameOf(type), card: nameOf(said) }) }, button(t('Back to {name}', { name: nameOf(said) }), () => app.set({ type: said, axles: null }))) : nothing}
        ${choices(t('Type'), app.pairsOf('vehicle_types'), type, code => app.set({ type: code, axles: null }), 'types')}${choices(t('class'), app.pairsOf('vehicle_classes'), classOf(draft, s), code => app.set({ class: code }), 'classes booth')}
        ${button(app.nameIn('vehicle_classes', classOf(draft, s)), () => app.act('class'), { look: 'hand' })}${isTruck(type) ? weight(app, type) : hint(t('No weight'))}`,
    };
  },

  fare(app) {
    const { draft: { hex }, s } = app;
    const keying = () => html`<div class="hexrow"><b class="hexbox" role="img" aria-label=${`Hex ${hex}`}>${hex.padEnd(8, '·')}</b>${['entryCard', 'stations', 'minimum'].map(name => deed(app, name))}</div>${pad(HEX, char => app.keyHex(char), 'hex')}`;
    return { look: 'fares', side: html`${told(app)}${blocks(app, s.side)}`, body: app.can('confirm_entry') ? keying() : nothing };
  },

  saved: app => ({ body: html`<div class="countdown ${app.may('stay') ? '' : 'still'}" aria-hidden="true"></div>` }),

  place(app) {
    const { doc, name } = app.place;
    const { title, blocks: found, bar = [], primary: main } = doc ?? {};
    return {
      title, isPlace: true, body: blocks(app, found), primary: main && [main.label, () => app.run(main), main.off],
      bar: [...bar.map(action => (action.label ? deedOf(app, action) : action)), name === 'menu' ? button(t('help'), () => app.open('help'), { key: 'F1' }) : nothing],
    };
  },
};

const told = app => (app.s.is_training && app.told ? hint(app.told) : nothing);

function say(app) {
  const { draft, s, code } = app;
  const { editor } = draft;
  const warn = (...words) => hint(`▲ ${t(...words)}`, 'warn');
  if (!app.error && !app.isMine) return warn(s.held_by);
  if (app.error || s.problem) return trouble(app);
  if (app.nudge) return warn(app.nudge);
  const alike = editor.at < editor.chars.length ? rules.lookAlikes(editor, editor.at) : [];
  if (alike.length) return html`<p class="alike">${t('Not "{char}"?', { char: editor.chars[editor.at] })} ${alike.map(char => key(char, () => app.keyPlate(char)))}</p>`;
  if (doubts(draft, s).size) return warn('Yellow: not sure, look');
  const plate = plateOf(draft);
  const isWhole = plateReady(draft);
  const card = s.passage.card?.plate;
  if (card && isWhole && card !== plate) return warn('Vehicle {plate}, card {card}: look', { plate, card });
  if (rules.isUnusual(plate)) return warn('Many letters: look again');
  const n = rules.faultyPlace(editor);
  return hint(isWhole ? t('✓ A plate') : n >= 0 ? t('Place {n} is wrong', { n: n + 1 }) : code ? t('Code {code}…', { code }) : t('Key what you see'));
}

function cells(app) {
  const { editor } = app.draft;
  const low = doubts(app.draft, app.s);
  return html`<div class="cells" role="group" aria-label=${t('plate')}>${[0, 1, 2, 3, 4, 5, 6, 7].map(place => {
    const char = editor.chars[place];
    const isExtra = place === 7 && !char && !editor.wide;
    return html`<button class="cell ${place === editor.at && !isExtra ? 'now' : ''} ${low.has(place) ? 'low' : ''} ${isExtra ? 'wider' : ''}" @click=${() => app.setEditor(rules.pick(editor, place))}
      aria-label=${t(isExtra ? '+new eighth place' : low.has(place) ? 'Place {n} {char}, not sure' : 'Place {n} {char}', { n: place + 1, char: char ?? '' })}>${char ?? (isExtra ? t('+new') : '')}</button>`;
  })}</div>`;
}

/** A full plate does not make keys look dead: a press says what to do. */
function keys(app) {
  const { editor } = app.draft;
  const { at, page, chars } = editor;
  const open = rules.allowed(at, chars, editor.wide);
  const isAlive = char => '更多退'.includes(char) || at >= rules.places(chars, editor.wide) || open.has(char);
  const pads = (look, ...found) => html`<div class="pad ${look}">${found.map(char => key(char, () => app.keyPlate(char), !isAlive(char), rules.codeOf(char)))}</div>`;
  const isArmed = at === 2 && page === 'more' && chars.join('').startsWith('WJ');
  if (isArmed || (at === 0 && !page)) return pads('provinces', ...rules.PROVINCES, '使', '更多', '退');
  if (at === 0 && page === 'more') return pads('starts', ...rules.STARTS, '更多', '退');
  const letters = page === 'more' ? [...(at === 1 ? ['O'] : []), ...rules.TAILS] : rules.LETTERS;
  return html`<div class="mixed">${pads('letters', ...letters)}${pads('digits', ...rules.DIGITS.slice(0, 9), '更多', '0', '退')}</div>`;
}

function weight(app, type) {
  const { draft, s } = app;
  const kilos = kilosOf(draft, s);
  const number = (name, value) => html`<p><small>${t(name)}</small><b>${value}</b></p>`;
  const told = draft.kilos ? t('By hand: {reason}', { reason: draft.weightReason }) : t(kilos !== null ? 'Steady' : s.devices.scale?.state === 'missing' ? '▲ No scale: by hand' : s.devices.scale?.weight_kg === 0 ? '▲ Nothing on the scale' : '▲ Not steady: wait, or by hand');
  return html`<div class="scale">${number('Total t', tonnes(kilos))}${number('Limit t', tonnes(s.passage.vehicle.limit_kg))}${choices(t('Axles'), AXLES.map(n => [n, n > 5 ? '6+' : n]), axlesOf(type, draft, s), n => app.set({ axles: n }), 'axles')}${deed(app, 'weigh')}</div>
    ${hint(told, kilos === null ? 'warn' : '')}`;
}
