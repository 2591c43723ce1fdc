// @ts-check
/** Between vehicles: waiting, reading a card, and passages that were put aside. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { age, clock, freshness, t, tOr, yuan } from '../text.js';
import { shiftName } from './frame.js';
import { alert, button, chip, facts, page, panes, primary, trouble } from './parts.js';
import { practice, practised } from './practice.js';

/** @typedef {import('../app.js').App} App */

/** @param {App} app */
export function idle(app) {
  const s = app.s;
  const reader = s.devices.reader;
  const isMissing = reader?.state === 'missing';
  const waiting = s.suspended.length;
  const work = html`<h1>${t('idle')}</h1><p class="big">${t('idle.card')}</p>
    ${isMissing ? alert({ code: 'E-112', detail: reader.text || t('reader.missing'), action: t('reader.action') }) : trouble(app)}
    ${waiting ? button(t('suspended.some', { n: waiting }), () => app.go('suspended'), { cls: 'warn' }) : nothing}
    ${last(app)}${practised(app)}${practice(app)}`;
  return panes(app, 'center', work, side(app), html`${button(t('history'), () => app.go('history'))}
    ${button(t('menu'), () => app.go('menu'))}${primary(app, t('read'), () => app.read(), !app.can('read'))}`);
}

/** The last one disappears after a minute: other people may look at this screen. @param {App} app */
function last(app) {
  const done = app.s.last;
  if (!done) return html`<p class="hint">${t('idle.first')}</p>`;
  if (app.now() - done.saved_at_ms > 60000) return nothing;
  return html`<p class="hint">${t('last')} ${chip(done.plate, done.colour)} ${yuan(done.amount_fen)} ${t('yuan')}
    · ${t('saved.at', { at: clock(done.saved_at_ms) })} #${done.seq}</p>`;
}

/** @param {App} app */
function side(app) {
  const { shift, sync } = app.s;
  if (!shift) return html`<h2>${t('shift.none')}</h2><p class="hint">${t('shift.auto')}</p>`;
  return html`<h2>${t('shift.this')}</h2>${facts([[t('shift'), shiftName(shift.shift)], [t('shift.count'), t('vehicles', { n: shift.count })],
    [t('shift.sum'), `${yuan(shift.sum_fen)} ${t('yuan')}`], [t('sync.unsent'), t('records', { n: sync.unsent })],
    [t('list.age'), listAge(app)]])}`;
}

/** How old the status list is: a stale one lets cards pass that should not. @param {App} app */
function listAge(app) {
  const seconds = app.s.parameters?.status_list?.age_s;
  return seconds == null ? t('none') : html`<span class=${freshness(seconds)}>${t('list.old', { age: age(seconds) })}</span>`;
}

/** @param {App} app */
export function reading(app) {
  const isLate = app.busyFor() > 1500;
  return panes(app, 'center', html`<h1>${t('reading')}</h1><p class="big">${isLate ? t('reading.still') : t('reading.wait')}</p>
    ${trouble(app)}`, nothing, html`${app.can('cancel') ? button(t('cancel'), () => app.open({ kind: 'cancel' }), { key: 'Esc' }) : nothing}
    ${primary(app, t('reading'), () => {}, true)}`);
}

/** @param {App} app */
export function suspended(app) {
  const rows = app.s.suspended;
  return page(app, t('suspended'), rows.length ? html`<ul class="rows">${rows.map((/** @type {any} */ p) => html`<li>
    ${chip(p.plate, p.colour ?? 9)}<span>${t('suspended.at', { state: tOr(`state.${p.state}`, p.state), at: clock(p.opened_at_ms) })}</span>
    ${button(t('resume'), () => app.resume(p.passage), { off: !app.can('resume') || app.isBusy, option: true })}</li>`)}</ul>
    ${app.can('resume') ? nothing : html`<p class="hint">${t('resume.later')}</p>`}` : html`<p class="hint">${t('suspended.empty')}</p>`);
}
