// @ts-check
/** Step 4 and 5: the amount, the entry station as a check, and 保存. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { findStations } from '../state.js';
import { t, tOr, yuan } from '../text.js';
import { remarks, stepBar } from './frame.js';
import { alert, button, facts, pad, panes, trouble } from './parts.js';
import { practised } from './practice.js';

/** @typedef {import('../app.js').App} App */

export const HEX = [...'123ABC456DEF7890退清'];

/** @param {App} app */
export function fare(app) {
  const { state, passage } = app.s;
  const isAgreed = state === 'agreed';
  const body = passage.quote ? amount(app, passage.quote) : state === 'unpriced'
    ? html`${trouble(app)}<p class="hint">${t('unpriced.hint')}</p>` : html`<p class="big">${app.s.busy ? t('busy.quote') : t('quote.first')}</p>`;
  const work = html`<h1>${isAgreed ? t('save.check') : t('fare')}</h1>${body}${isAgreed ? agreed(app) : app.can('confirm_entry') ? entry(app) : nothing}`;
  return panes(app, 'fares', work, html`${explained(app)}${minimum(app, 'wide')}${practised(app)}${remarks(app)}`, footer(app, isAgreed));
}

/** @param {App} app @param {boolean} isAgreed */
function footer(app, isAgreed) {
  if (isAgreed) return stepBar(app, 'fare', t('save'), () => app.send({ command: 'save' }));
  if (app.can('confirm_entry')) {
    return stepBar(app, 'fare', t('entry.confirm'), () => app.confirmEntry('typed'), { off: app.draft.hex.length < 8 });
  }
  return stepBar(app, 'fare', t('quote'), () => app.send({ command: 'quote' }), { off: !app.can('quote') });
}

/** @param {App} app @param {string} cls */
const minimum = (app, cls) => app.can('minimum_fare')
  ? button(t('minimum'), () => app.open({ kind: 'master', purpose: 'minimum_fare' }), { key: 'F9', cls }) : nothing;

/** @param {App} app @param {Record<string, any>} quote */
function amount(app, quote) {
  const { card } = app.s.passage;
  const isShort = card?.kind === 'stored' && card.balance_fen !== null && card.balance_fen < quote.amount_fen;
  return html`<div class="money"><b>${yuan(quote.amount_fen)}</b><span>${t('yuan')}</span><p class="hint">${
    t('fare.way', { from: quote.station_name, to: app.s.station?.name ?? '', kind: quote.kind_name })}</p></div>
    ${isShort ? alert({ code: 'E-215', detail: t('balance.short', { balance: yuan(card.balance_fen), amount: yuan(quote.amount_fen) }),
    action: t('balance.action'), level: 'warn' }) : nothing}${app.error ? alert(app.error) : nothing}`;
}

/** The collector keys the station's Hex: the eighth digit asks the gateway. @param {App} app */
function entry(app) {
  const { hex } = app.draft;
  const expected = app.s.passage.quote?.station_name;
  return html`<div class="hexrow"><div class="hexbox" role="img" aria-label=${t('hex.label', { hex })}>${hex.padEnd(8, '·')}</div>
    <p>${expected ? t('hex.expected', { name: expected }) : t('hex.other')}</p></div>
    ${pad(HEX, key => app.keyHex(key), 'hex')}<div class="row even">
    ${app.s.policy?.hex_from_card && app.cardHex() ? button(t('hex.card'), () => app.confirmEntry('card')) : nothing}
    ${button(t('hex.search'), () => app.open({ kind: 'stations', query: '' }))}${minimum(app, 'hand-only')}</div>`;
}

/** @param {App} app */
const agreed = app => html`<p class="big good">✓ ${app.s.passage.approval
  ? t('agreed.master', { who: app.s.passage.approval.name || app.s.passage.approval.operator })
  : t('agreed.entry', { name: app.s.passage.quote?.station_name ?? '' })}</p>${app.s.problem ? alert(app.s.problem) : nothing}
  <p class="big">${t('save.hint')}</p>`;

/** 这笔费怎么来的 @param {App} app */
export function explained(app) {
  const { quote, entry: from } = app.s.passage;
  if (!quote) return nothing;
  return html`<h2>${t('explain')}</h2>${facts([[t('explain.kind'), quote.kind_name], [t('explain.mileage'), t('km', { n: (quote.mileage_m / 1000).toFixed(1) })],
    [t('explain.due'), yuan(quote.pay_fee_fen)], [t('explain.discount'), yuan(-quote.discount_fen)],
    [t('explain.entry'), tOr(`source.${from?.source}`, '')], [t('explain.version'), quote.table_version]])}
    ${quote.explained.map((/** @type {string} */ line) => html`<p class="note">${line}</p>`)}`;
}

/** By name: initials on the pad, or anything on a keyboard. @param {App} app */
export function stations(app) {
  const query = app.dialog?.query ?? '';
  const rows = findStations(app.tables.stations, query).slice(0, 8);
  return html`<h1>${t('hex.search')}</h1><input class="search" name="query" inputmode="none" autocomplete="off" placeholder=${t('stations.hint')}
    aria-label=${t('stations.hint')} .value=${query} @input=${(/** @type {any} */ event) => app.open({ kind: 'stations', query: event.target.value })}>
    <div class="choices stations">${rows.map(row => html`<button type="button" class="option" data-option @click=${() => app.chooseStation(row)}>
    ${row.name} <small>${row.hex}</small></button>`)}${rows.length ? nothing : html`<p class="hint">${t('stations.none')}</p>`}</div>
    ${pad([...'ABCDEFGHIJKLMNOPQRSTUVWXYZ', '退', '清'], key => app.keyQuery(key), 'letters7')}`;
}
