// @ts-check
/** Small pieces that every screen is made of: templates only, no state. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { spaced } from '../plate.js';
import { t, tOr } from '../text.js';

/** @typedef {import('../app.js').App} App */
/** @typedef {unknown} Template */

/** @param {string} label @param {() => unknown} act
 * @param {{key?: string, cls?: string, off?: boolean, option?: boolean, back?: boolean}} [how] */
export const button = (label, act, { key = '', cls = '', off = false, option = false, back = false } = {}) => html`<button
  type="button" class=${cls} ?disabled=${off} ?data-option=${option} ?data-back=${back} @click=${act}>${label}${
  key ? html`<kbd aria-hidden="true">${key}</kbd>` : nothing}</button>`;

/** The one primary button: always this corner, always Enter.
 * @param {App} app @param {string} label @param {() => unknown} act @param {boolean} [off] */
export const primary = (app, label, act, off = false) => html`<button type="button" class="primary" data-primary
  ?disabled=${off || app.isBusy} @click=${() => app.press(act)}>${app.busyWord() || label}<kbd aria-hidden="true">Enter</kbd></button>`;

/** @param {string} text @param {number | null} colour */
export const chip = (text, colour) => html`<span class="plate c${colour ?? 9}">${text ? spaced(text) : t('none')}</span>`;

/** @param {[unknown, unknown][]} rows */
export const facts = rows => html`<dl>${rows.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;

/** Keys of a pad. @param {string[]} keys @param {(key: string) => void} act @param {string} cls
 * @param {(key: string) => boolean} [isDead] */
export const pad = (keys, act, cls, isDead = () => false) => html`<div class="pad ${cls}">${keys.map(key => html`<button
  type="button" class="key ${key.length > 1 ? 'word' : ''}" ?disabled=${isDead(key)} @click=${() => act(key)}>${key}</button>`)}</div>`;

export const NUMBERS = [...'123456789清0退'];

/** One choice out of several. @param {string} label @param {[unknown, string][]} options
 * @param {unknown} chosen @param {(value: any) => void} act @param {string} [cls] */
export const choices = (label, options, chosen, act, cls = '') => html`<div class="choices ${cls}" role="radiogroup"
  aria-label=${label}>${options.map(([value, name]) => html`<button type="button" role="radio" class="option"
  aria-checked=${value === chosen} @click=${() => act(value)}>${name}</button>`)}</div>`;

/** @param {string} key a list in the catalogue, parted by | */
export const list = key => t(key).split('|');

/** What happened · what is safe · what to do; the code small at the end.
 * @param {{code?: string, detail?: string, action?: string, level?: string}} fault @param {unknown} [extra] */
export function alert(fault, extra = nothing) {
  const code = E_CODES[fault.code ?? ''] ?? fault.code ?? '';
  const title = tOr(`${code}.title`, fault.detail ?? '');
  const line = title === fault.detail ? '' : fault.detail;
  return html`<div class="alert ${fault.level ?? 'bad'}" role="alert"><b>${fault.level === 'warn' ? '▲' : '✕'} ${title}</b>
    ${line ? html`<p>${line}</p>` : nothing}<p>${fault.action} <small>${code}</small></p>${extra}</div>`;
}

/** Stable codes of the gateway that the catalogue has a name for (ui.md §2.7).
 * @type {Record<string, string>} */
const E_CODES = {
  'entry.mismatch': 'E-212', 'station.unknown': 'E-213', 'plate.invalid': 'E-201', 'master.refused': 'E-221',
  'access.locked': 'E-222', 'flow.not_owner': 'E-402', 'store.unavailable': 'E-303', 'card.absent': 'E-101',
  'fare.unknown': 'E-211', 'card.outcome_unknown': 'E-301',
};

/** What stands in the way here: the last refusal, else the lane's own problem. @param {App} app */
export function trouble(app) {
  if (app.error) return alert(app.error);
  return app.s?.problem ? alert(app.s.problem) : nothing;
}

/** @param {App} app @param {string} screen @param {Template} work @param {Template} side @param {Template} footer */
export const panes = (app, screen, work, side, footer) => html`<main class="work ${screen}">${work}</main>
  <aside class="side">${side}</aside><footer class="bar">${footer}</footer>`;

/** A page around the lane: a heading, a body that may scroll, a way back. @param {App} app
 * @param {string} title @param {unknown} body @param {unknown} [footer] @param {unknown} [side] */
export const page = (app, title, body, footer = nothing, side = nothing) => html`<main class="work wide"><h1>${title}</h1>
  ${trouble(app)}<div class="scroll" tabindex="0" role="region" aria-label=${title}>${body}</div></main>${side}<footer class="bar">
  ${button(t('back'), () => app.leave(), { key: 'Esc' })}${footer}</footer>`;
