// @ts-check
/** What stays on sight whatever the step: lane, shift, devices, sync, this vehicle, the five steps. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { before, STEPS, stepOf } from '../state.js';
import { age, clock, t, tOr, yuan } from '../text.js';
import { alert, button, chip, primary } from './parts.js';

/** @typedef {import('../app.js').App} App */

/** @param {App} app */
export function top(app) {
  const s = app.s;
  const who = app.session;
  return html`<header class="top"><b class="lane">${s?.lane_name ?? t('title')}</b>
    <span class="who">${who?.operator ? `${who.name} ${who.operator}` : ''}${s?.shift ? ` · ${shiftName(s.shift.shift)}` : ''}</span>
    ${s ? html`<span class="devices" role="list" aria-label=${t('devices')}>${Object.values(s.devices).map(device)}</span>
    ${syncChip(app)}` : nothing}</header>
    ${app.link.isMissed ? html`<div class="lost" role="alert">${t('link.lost')}</div>` : nothing}`;
}

/** @param {number} shift */
export const shiftName = shift => tOr(`shift.${shift}`, String(shift ?? ''));

/** @param {Record<string, any>} device */
const device = device => html`<span role="listitem" class="device ${device.state}">${
  device.state === 'ok' ? '●' : '▲'} ${device.name}${device.state === 'ok' ? '' : ` ${tOr(`device.${device.state}`, '')}`}</span>`;

/** @param {App} app */
function syncChip(app) {
  const { online, unsent, oldest_unsent_ms: oldest, parked } = app.s.sync;
  const waited = oldest ? (app.now() - oldest) / 1000 : 0;
  const isLate = waited > 4 * 3600 || unsent > 500;
  const words = online ? (unsent ? t('sync.sending', { n: unsent }) : t('sync.done')) : t('sync.offline', { n: unsent });
  const more = !online && waited > 1800 ? t('sync.oldest', { at: clock(oldest) }) : '';
  const level = isLate || parked ? 'bad' : online ? 'ok' : 'warn';
  return html`<button type="button" class="sync ${level}" @click=${() => app.open({ kind: 'sync' })}>${
    words}<span class="booth">${more}${parked ? t('sync.parked', { n: parked }) : ''}</span></button>`;
}

/** @param {App} app @param {string} screen */
export function strip(app, screen) {
  const p = app.s.passage;
  const plate = screen === 'plate' ? app.draft.editor.chars.join('') : p.plate;
  const colour = screen === 'plate' ? app.draft.colour : p.colour;
  return html`<section class="strip" aria-label=${t('vehicle')}><div>${chip(plate, plate ? colour : 9)}</div>
    <div><small>${t('entry')}</small>${p.entry?.station_name || t('none')}</div>
    <div class="extra"><small>${t('entry.time')}</small>${clock(p.entry?.at_ms || p.entry?.time)}</div>
    <div class="extra"><small>${t('media')}</small>${verdict(p)}</div>
    <div class="amount"><small>${t('amount')}</small>${yuan(p.quote?.amount_fen)}</div></section>`;
}

/** @param {Record<string, any>} p */
function verdict(p) {
  if (!p.card) return t('none');
  const differs = p.findings.some((/** @type {any} */ f) => f.code >= 41 && f.code <= 47);
  if (differs) return html`<b class="bad">✕ ${t('media.differs')}</b>`;
  return p.tag ? html`✓ ${t('media.agrees')}` : html`▲ ${t('media.noTag')}`;
}

/** @param {App} app @param {string} screen */
export function steps(app, screen) {
  const at = STEPS.indexOf(stepOf(screen, app.s));
  return html`<nav class="steps" aria-label=${t('steps')}><ol>${STEPS.map((step, i) => html`<li
    class=${i < at ? 'past' : i === at ? 'now' : ''} aria-current=${i === at ? 'step' : nothing}><i aria-hidden="true">${
    i < at ? '✓' : i + 1}</i><span>${t(`step.${step}`)}</span></li>`)}</ol></nav>`;
}

/** Bar of a step: cancel, back, extras, the primary. @param {App} app @param {string} screen
 * @param {string} label @param {() => unknown} act @param {{off?: boolean, extra?: unknown}} [how] */
export function stepBar(app, screen, label, act, { off = false, extra = nothing } = {}) {
  const previous = before(screen, app.s);
  const isMine = app.isMine;
  return html`${isMine && (app.can('cancel') || app.can('suspend'))
    ? button(t('cancel'), () => app.open({ kind: 'cancel' }), { key: 'Esc', off: !!app.pending }) : nothing}
    ${isMine && previous ? button(t('previous'), () => app.set({ look: previous }), { key: '←', back: true }) : nothing}
    ${app.can('suspend') ? button(t('suspend'), () => app.send({ command: 'suspend' }), { key: 'F11', cls: 'booth' }) : nothing}
    ${isMine ? extra : html`<p class="hint warn hand-only">▲ ${held(app.s.passage)}</p>`}${primary(app, label, act, off || !isMine)}`;
}

/** Which screen holds it. @param {Record<string, any>} p */
const held = p => t('owner', { who: t(p.owner === 'booth' ? 'owner.booth' : 'owner.hand') });

/** Findings that do not stop the passage, and who else holds it. @param {App} app */
export function remarks(app) {
  const p = app.s.passage;
  return html`${app.isMine ? nothing : alert({ code: 'E-402', detail: held(p), action: t('owner.action') })}
    ${p.findings.map((/** @type {any} */ f) => html`<p class="remark ${f.level}">▲ ${f.text} <small>${f.code}</small></p>`)}`;
}

/** @param {Record<string, any>} p */
export const mediaRows = p => /** @type {[string, unknown][]} */ ([
  [t('card.plate'), p.card?.plate || t('none')], [t('tag.plate'), p.tag?.plate || p.tag_fault || t('none')],
  [t('card.number'), p.card?.number ?? t('none')],
  [t('card.balance'), p.card?.kind === 'credit' ? t('card.credit') : yuan(p.card?.balance_fen)],
]);

/** @param {Record<string, any>} sync */
export const syncRows = sync => /** @type {[string, unknown][]} */ ([
  [t('sync.link'), sync.online ? t('sync.up') : t('sync.down')], [t('sync.unsent'), t('records', { n: sync.unsent })],
  [t('sync.first'), clock(sync.oldest_unsent_ms)], [t('sync.eta'), age(sync.eta_s)],
  [t('sync.refused'), t('records', { n: sync.parked })],
]);
