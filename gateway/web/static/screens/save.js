// @ts-check
/** The money moves: writing, unknown, done. No cancel from here on. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { t, yuan } from '../text.js';
import { remarks } from './frame.js';
import { button, chip, facts, panes, primary, trouble } from './parts.js';

/** @typedef {import('../app.js').App} App */

/** @param {App} app */
export const saving = app => panes(app, 'center', html`<h1>${t('saving')}</h1><p class="big">${t('saving.wait')}</p>
  <p class="money"><b>${yuan(app.s.passage.quote?.amount_fen)}</b><span>${t('yuan')}</span></p>
  ${app.busyFor() > 1200 ? html`<p class="hint warn">▲ ${t('saving.slow')}</p>` : nothing}`, remarks(app),
primary(app, t('saving'), () => {}, true));

/** Never 失败: nobody knows yet, and the card itself can tell. @param {App} app */
export function doubtful(app) {
  const { problem, busy } = app.s;
  const work = html`<div class="alert bad tall" role="alert"><h1>▲ ${t('E-301.title')}</h1><p class="big">${t('doubt.line')}</p>
    ${problem ? html`<p>${problem.detail} <small>${problem.code}</small></p>` : nothing}
    ${app.error ? html`<p>${app.error.detail} ${app.error.action}</p>` : nothing}</div>
    ${facts([[t('card.number'), app.s.passage.card?.number ?? t('none')], [t('amount'), yuan(app.s.passage.quote?.amount_fen)]])}`;
  return panes(app, 'doubt', work, remarks(app), html`
    ${app.can('hand_over') ? button(t('doubt.gone'), () => app.open({ kind: 'reason', purpose: 'hand_over', list: 'reasons.gone' })) : nothing}
    ${primary(app, busy === 'proof' ? t('busy.prove') : t('doubt.prove'), () => app.send({ command: 'prove' }), !app.can('prove'))}`);
}

/** Green only with the number the journal gave. @param {App} app */
export function saved(app) {
  const { passage: p, sync } = app.s;
  const { record } = p;
  if (!record) return saving(app);
  const isHeld = app.held === p.id || !!app.s.problem;
  const work = html`<h1>✓ ${t('saved')}</h1>${trouble(app)}<div class="money"><b>${yuan(app.s.last?.record_id === record.id ? app.s.last.amount_fen : p.quote?.amount_fen)}</b><span>${t('yuan')}</span></div>
    <p class="big">${chip(p.plate, p.colour)}</p><p class="big">${t('saved.disk', { seq: record.seq, chain: String(record.chain).slice(0, 4).toUpperCase() })}</p>
    <p class="hint">${sync.online && !sync.unsent ? t('saved.sent') : sync.online ? t('saved.sending') : t('saved.offline')}</p>
    <div class="countdown ${isHeld ? 'still' : ''}" aria-hidden="true"><i></i></div>`;
  const side = html`<h2>${t('saved.record')}</h2>${facts([[t('record.seq'), `#${record.seq}`], [t('record.tac'), record.tac ?? t('none')],
    [t('entry'), p.quote?.station_name ?? t('none')], [t('card.number'), p.card?.number ?? t('none')]])}
    <p class="note">${t('record.id', { id: record.id })}</p>${remarks(app)}`;
  return panes(app, 'center ok', work, side, html`${isHeld ? nothing : button(t('saved.stay'), () => app.hold())}
    ${primary(app, t('next'), () => app.dismiss())}`);
}
