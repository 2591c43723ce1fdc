// @ts-check
/** Before the first vehicle: the page starts, a person signs in, chooses lane and shift. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { t, tOr } from '../text.js';
import { alert, choices, NUMBERS, page, pad, panes, primary } from './parts.js';
import { shiftName } from './frame.js';

/** @typedef {import('../app.js').App} App */

/** @param {App} app */
export const boot = app => html`<main class="work center alone"><h1>${t('boot')}</h1>
  <p class="big">${app.isSlow ? t('boot.slow') : t('boot.wait')}</p></main>`;

/** Number and password, with a pad of their own: no system keyboard covers the screen.
 * @param {App} app @param {string} label */
export function credentials(app, label) {
  const field = (/** @type {'operator' | 'password'} */ name) => html`<label class="field ${app.secret.field === name ? 'now' : ''}">
    <small>${name === 'operator' ? label : t('password')}</small><input type=${name === 'operator' ? 'text' : 'password'}
    name=${name} inputmode="none" autocomplete="off" maxlength="40" .value=${app.secret[name]}
    @focus=${() => app.keyIn({ field: name })}
    @input=${(/** @type {any} */ event) => app.keyIn({ [name]: event.target.value })}></label>`;
  return html`<form @submit=${(/** @type {Event} */ event) => event.preventDefault()}><div class="two">${field('operator')}${field('password')}</div>
    ${pad(NUMBERS, key => app.keySecret(key), 'num')}</form>`;
}

/** @param {App} app */
export function login(app) {
  return panes(app, 'login', html`<h1>${t('login')}</h1>${app.error ? alert(app.error) : html`<p class="hint">${t('login.hint')}</p>`}${credentials(app, t('operator'))}`,
    nothing,
    primary(app, t('login'), () => (app.secret.password ? app.signIn() : app.toPassword()), !app.secret.operator));
}

/** @param {App} app */
export function shift(app) {
  const lane = app.lanes.find(each => each.lane === app.choice.lane);
  const isOpen = app.error?.code === 'shift.open';
  const body = html`<h2>${t('lane')}</h2><div class="choices lanes" role="radiogroup" aria-label=${t('lane')}>${app.lanes.map(each => html`<button
    type="button" role="radio" class="option" aria-checked=${each.lane === app.choice.lane} ?disabled=${!each.enabled}
    @click=${() => app.choose({ lane: each.lane })}>${each.name ?? each.lane}${each.enabled ? '' : ` · ${t('lane.off')}`}</button>`)}</div>
    <h2>${t('shift')}</h2>${choices(t('shift'), [1, 2, 3].map(n => [n, shiftName(n)]), app.choice.shift, n => app.choose({ shift: n }))}
    <h2>${t('shift.check')}</h2>${lane ? checks(lane.devices) : nothing}`;
  return page(app, t('shift.start'), body, isOpen
    ? primary(app, t('shift.continue'), () => app.enter(app.choice.lane))
    : primary(app, t('shift.start'), () => app.startShift(), !lane));
}

/** @param {Record<string, any>} devices */
const checks = devices => html`<ul class="rows">${Object.values(devices ?? {}).map((/** @type {any} */ d) => html`<li class=${d.state}>
  ${d.state === 'ok' ? '✓' : '▲'} ${d.name} · ${tOr(`device.${d.state}`, d.state)} ${d.text ?? ''}</li>`)}</ul>`;
