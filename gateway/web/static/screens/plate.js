// @ts-check
/** Step 2: the plate as it is on the vehicle, its colour and the photo. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import * as rules from '../plate.js';
import { doubts, edited, plateReady } from '../state.js';
import { t } from '../text.js';
import { mediaRows, remarks, stepBar } from './frame.js';
import { alert, button, facts, panes, trouble } from './parts.js';

/** @typedef {import('../app.js').App} App */

const COLOURS = [0, 1, 4, 5, 3, 2];

/** @param {App} app */
export function plate(app) {
  const { draft } = app;
  const work = html`<h1>${t('plate')}</h1><div class="say">${say(app)}</div>${cells(app)}
    <div class="colours" role="radiogroup" aria-label=${t('colour')}>${COLOURS.map(colour => html`<button type="button" role="radio"
    class="colour c${colour}" aria-checked=${colour === draft.colour} @click=${() => app.set({ colour, colourTouched: true })}>${
    t(`colour.${colour}`)}</button>`)}<button type="button" role="radio" class="colour" aria-checked=${!COLOURS.includes(draft.colour)}
    @click=${() => app.open({ kind: 'colours' })}>${COLOURS.includes(draft.colour) ? t('more') : t(`colour.${draft.colour}`)}</button></div>
    ${keys(app)}`;
  return panes(app, 'plates', work, side(app),
    stepBar(app, 'plate', t('plate.confirm'), () => app.submitPlate(),
      { off: !plateReady(draft), extra: phone(app) }));
}

/** The line above the cells: a fault, look-alikes of the picked cell, doubts, or what to do. @param {App} app */
function say(app) {
  const { editor } = app.draft;
  if (app.error || app.s.problem) return html`<div class="beside">${trouble(app)}${app.s.problem?.code === 'E-203'
    ? button(t('photo.without'), () => app.open({ kind: 'reason', purpose: 'no_photo', list: 'reasons.photo' })) : nothing}</div>`;
  if (app.nudge) return html`<p class="hint warn" role="status">▲ ${t(app.nudge)}</p>`;
  const alike = editor.at < editor.chars.length ? rules.lookAlikes(editor, editor.at) : [];
  if (alike.length) {
    return html`<p class="alike"><span>${t('plate.alike', { char: editor.chars[editor.at] })}</span>${alike.map(char => html`<button
      type="button" class="key" @click=${() => app.keyPlate(char)}>${char}</button>`)}</p>`;
  }
  if (doubts(app.draft, app.s).size) return html`<p class="hint warn">▲ ${t('plate.doubt')}</p>`;
  return html`<p class="hint">${advice(app)}</p>`;
}

/** @param {App} app */
function advice(app) {
  const text = app.draft.editor.chars.join('');
  const kind = rules.kind(text);
  if (rules.isUnusual(text)) return t('plate.unusual');
  if (kind) return t('plate.good', { kind: t(`kind.${kind}`) });
  const faulty = rules.faultyPlace(app.draft.editor);
  if (faulty >= 0) return t('plate.faulty', { n: faulty + 1, char: text[faulty] });
  return app.codePrefix ? t('plate.code', { code: app.codePrefix }) : text ? t('plate.rest') : t('plate.type');
}

/** @param {App} app */
function cells(app) {
  const { editor } = app.draft;
  const low = doubts(app.draft, app.s);
  const cell = (/** @type {number} */ i) => {
    const char = editor.chars[i] ?? '';
    const isExtra = i === 7 && !char && !editor.wide;
    const label = t('plate.cell', { n: i + 1, char: char || t('plate.empty') }) + (low.has(i) ? t('plate.unsure') : '');
    return html`<button type="button" class="cell ${i === editor.at ? 'now' : ''} ${low.has(i) ? 'low' : ''} ${isExtra ? 'wider' : ''}"
      aria-label=${isExtra ? t('plate.wider') : label} @click=${() => app.setEditor(rules.pick(editor, i))}>${char || (isExtra ? t('plate.new') : '')}</button>`;
  };
  return html`<div class="cells" role="group" aria-label=${t('plate.input')}>${[0, 1, 2, 3, 4, 5, 6, 7].map(cell)}</div>`;
}

/** Thirty-six keys that never move. A full plate does not make them look dead: a press says what to do.
 * @param {App} app */
function keys(app) {
  const { editor } = app.draft;
  const isFull = editor.at >= rules.places(editor.chars, editor.wide);
  const open = rules.allowed(editor.at, editor.chars, editor.wide);
  const key = (/** @type {string} */ char) => html`<button type="button" class="key ${char.length > 1 ? 'word' : ''}"
    ?disabled=${!isFull && !open.has(char)} @click=${() => app.keyPlate(char)}>${char}</button>`;
  const free = (/** @type {string} */ char) => html`<button type="button" class="key word" @click=${() => app.keyPlate(char)}>${char}</button>`;
  const isArmed = editor.at === 2 && editor.page === 'more' && editor.chars[0] === 'W' && editor.chars[1] === 'J';
  if (isArmed || (editor.at === 0 && !editor.page)) {
    return html`<div class="pad provinces">${[...rules.PROVINCES, '使'].map(key)}${free('更多')}${free('退')}</div>`;
  }
  if (editor.at === 0 && editor.page === 'more') return html`<div class="pad starts">${rules.STARTS.map(key)}${free('更多')}${free('退')}</div>`;
  const isMore = editor.page === 'more' && editor.at > 0;
  const letters = isMore ? [...(editor.at === 1 ? ['O'] : []), ...rules.TAILS] : rules.LETTERS;
  return html`<div class="pad mixed"><div class="letters">${letters.map(key)}</div>
    <div class="digits">${rules.DIGITS.slice(0, 9).map(key)}${free('更多')}${key('0')}${free('退')}</div></div>`;
}

/** @param {App} app */
function side(app) {
  return html`${photo(app)}${facts(mediaRows(app.s.passage).slice(0, 2))}${differs(app)}${remarks(app)}`;
}

/** @param {App} app */
export const photo = app => html`<figure><button type="button" class="photo" aria-label=${t('photo.large')}
  @click=${() => app.open({ kind: 'photo' })}><img alt=${t('photo')} src=${app.photoUrl()}
  @error=${() => app.photoFailed(true)} @load=${() => app.photoFailed(false)}>${app.noPhoto ? html`<span>${t('photo.none')}</span>` : nothing}</button>
  <figcaption>${app.s.passage?.photo ? t('photo.kept') : t('photo.live')}</figcaption></figure>
  <div class="two">${button(t('photo.again'), () => app.retake(), { key: 'F4', cls: 'small' })}</div>`;

/** The handheld's own camera; its picture is stored before the plate goes. In the bar, since a
 * handheld has no room for the side. @param {App} app */
const phone = app => crypto.subtle ? html`<label class="button">${app.draft.photo ? t('photo.phone.kept') : t('photo.phone')}<input type="file"
  class="sr" accept="image/*" capture="environment" @change=${(/** @type {any} */ event) => app.upload(event.target.files[0])}></label>` : nothing;

/** @param {App} app */
function differs(app) {
  const text = app.draft.editor.chars.join('');
  const card = app.s.passage.card?.plate;
  if (!card || !rules.kind(text) || card === text) return nothing;
  return alert({ code: 'E-202', detail: t('plate.differs', { plate: text, card }), action: t('plate.differs.action'), level: 'warn' });
}

/** @param {App} app */
export const colours = app => html`<h1>${t('colour')}</h1><div class="choices">${app.colourRows().map((/** @type {any} */ row) => html`<button type="button"
  class="option" data-option @click=${() => { app.set({ colour: row.code, colourTouched: true }); app.close(); }}>${row.name}</button>`)}</div>`;

/** @param {import('../state.js').Draft} draft @param {string} key */
export const keyed = (draft, key) => edited(draft, rules.press(draft.editor, key));
