// @ts-check
/** Step 3: type and class, and for lorries the weight. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { awaitsWeight, axlesOf, classOf, isTruck, typeOf } from '../state.js';
import { t, tonnes } from '../text.js';
import { mediaRows, remarks, stepBar } from './frame.js';
import { alert, button, choices, facts, list, NUMBERS, pad, panes, primary, trouble } from './parts.js';

/** @typedef {import('../app.js').App} App */

const AXLES = [2, 3, 4, 5, 6];

/** @param {App} app */
export function vehicle(app) {
  const { s, draft } = app;
  const type = typeOf(draft, s);
  const work = html`<h1>${t('vehicle.check')}</h1>${trouble(app)}
    ${choices(t('type'), app.tables.vehicle_types.map(row => [row.code, row.name]), type, code => app.set({ type: code, axles: null }), 'types')}
    ${classes(app)}${button(t('class.more', { name: app.className() }), () => app.open({ kind: 'classes' }), { cls: 'hand-only' })}
    ${isTruck(type) ? weight(app, type) : html`<p class="hint">${t('weigh.none')}</p>`}${differs(app, type)}`;
  const label = s.state === 'classified' && awaitsWeight(s) && !draft.look ? t('weigh.confirm') : t('vehicle.confirm');
  return panes(app, 'vehicles', work, html`${facts(mediaRows(s.passage))}${remarks(app)}`,
    stepBar(app, 'vehicle', label, () => app.submitVehicle(), { off: type === null || (isTruck(type) && app.kilos() === null) }));
}

/** The usual ones; a small screen keeps the rest one tap away. @param {App} app @param {string} [cls] */
function classes(app, cls = 'classes') {
  const chosen = classOf(app.draft, app.s);
  return html`${choices(t('class'), app.tables.vehicle_classes.map(row => [row.code, row.name]), chosen, code => { app.set({ class: code }); app.close(); }, cls)}`;
}

/** @param {App} app */
export const classesDialog = app => html`<h1>${t('class')}</h1>${classes(app, 'pairs')}<div class="row">${button(t('back'), () => app.close(), { key: 'Esc' })}</div>`;

/** @param {App} app @param {number | null} type */
function differs(app, type) {
  const said = app.s.passage.card?.vehicle_type ?? app.s.passage.tag?.vehicle_type;
  if (!said || type === null || said === type) return nothing;
  return alert({ code: 'E-205', detail: t('type.differs', { chosen: app.typeName(type), card: app.typeName(said) }),
    action: t('type.differs.action'), level: 'warn' });
}

/** @param {App} app @param {number | null} type */
function weight(app, type) {
  const { draft } = app;
  const scale = app.s.devices.scale;
  const load = app.kilos();
  const isTyped = draft.kilos !== '';
  const { limit_kg: limit } = app.s.passage.vehicle;
  return html`<div class="scale"><div><small>${t('weigh.total')}</small><b>${tonnes(load)}</b></div>
    <div><small>${t('weigh.limit')}</small><b>${tonnes(limit)}</b></div>
    <div class="grow"><small>${t('weigh.axles')}</small>${choices(t('weigh.axles'), AXLES.map(n => [n, n === 6 ? '6+' : String(n)]),
      axlesOf(type, draft, app.s), n => app.set({ axles: n }), 'axles')}</div>
    ${button(t('weigh.type'), () => app.open({ kind: 'weigh' }), { key: 'F7' })}</div>
    <p class="hint ${load === null ? 'warn' : ''}">${isTyped ? t('weigh.typed', { reason: draft.weightReason })
      : load !== null ? t('weigh.scale') : scale?.state === 'missing' ? `▲ ${t('weigh.missing')}` : `▲ ${t('weigh.unstable')}`}</p>`;
}

/** Weight by hand, with its reason. @param {App} app */
export const weighDialog = app => html`<h1>${t('weigh.type')}</h1><div class="two"><div><p class="figure">${app.draft.kilos || '0'} <small>${t('kg')}</small></p>
  ${pad(NUMBERS, key => app.keyDigits('kilos', key, 6), 'num')}</div><div><h2>${t('reason')}</h2>
  ${choices(t('reason'), list('reasons.weigh').map(text => [text, text]), app.draft.weightReason, text => app.set({ weightReason: text }), 'column')}</div></div>
  <div class="row">${button(t('weigh.useScale'), () => { app.set({ kilos: '', weightReason: '' }); app.close(); })}
  ${primary(app, t('ok'), () => app.close(), !Number(app.draft.kilos) || !app.draft.weightReason)}</div>`;
