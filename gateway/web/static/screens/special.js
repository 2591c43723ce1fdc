// @ts-check
/** 特情: refused at the checks, handed over, settled by hand with the master. */
import { html, nothing } from '../vendor/lit-html/lit-html.js';
import { t, tOr, yuan } from '../text.js';
import { credentials } from './entrance.js';
import { mediaRows, stepBar } from './frame.js';
import { alert, button, choices, facts, list, NUMBERS, pad, panes, primary, trouble } from './parts.js';

/** @typedef {import('../app.js').App} App */

/** @param {App} app */
export function refused(app) {
  const { findings } = app.s.passage;
  const mayPass = app.can('override') && !findings.some((/** @type {any} */ f) => f.level === 'stops');
  const work = html`<h1 class="bad">✕ ${t('refused')}</h1><p class="hint">${mayPass ? t('refused.master') : t('refused.stops')}</p>
    ${trouble(app)}<ul class="rows">${findings.map((/** @type {any} */ f) => html`<li class=${f.level}><b>${f.text}</b>
    <small>${t(`level.${f.level}`)} · ${t('special.code', { code: f.code })}</small></li>`)}</ul>`;
  const handOver = () => app.open({ kind: 'reason', purpose: 'hand_over', list: 'reasons.handover' });
  const master = () => app.open({ kind: 'master', purpose: 'override' });
  const side = html`${facts(mediaRows(app.s.passage))}`;
  return panes(app, 'refusal', work, side, mayPass
    ? stepBar(app, 'refused', t('master.ask'), master, { extra: app.can('hand_over') ? button(t('handover'), handOver) : nothing })
    : stepBar(app, 'refused', t('handover'), handOver, { off: !app.can('hand_over') }));
}

/** @param {App} app */
export function held(app) {
  const { draft } = app;
  const isUnpaid = draft.means === 'unpaid';
  const isDisputed = app.s.state === 'disputed';
  const work = html`<h1>${t(isDisputed ? 'disputed' : 'held')}</h1>${isDisputed ? html`<p class="hint warn">▲ ${t('disputed.hint')}</p>` : nothing}
    ${trouble(app)}<div class="two"><div>
    ${choices(t('means'), ['cash', 'mobile', 'unpaid'].map(means => [means, t(`means.${means}`)]), draft.means, means => app.set({ means }), 'column')}
    <h2>${t('reason')}</h2>${choices(t('reason'), list('reasons.settle').map(text => [text, text]), draft.reason, reason => app.set({ reason }), 'pairs')}</div>
    <div><p class="figure">${isUnpaid ? yuan(0) : yuan(Number(draft.fen))} <small>${t('yuan')}</small></p>
    ${pad(NUMBERS, key => app.keyDigits('fen', key, 7), 'num', () => isUnpaid)}</div></div>`;
  const isReady = draft.reason && (isUnpaid || Number(draft.fen) > 0);
  return panes(app, 'held', work, html`${facts(mediaRows(app.s.passage))}${app.s.passage.findings.map((/** @type {any} */ f) => html`<p
    class="remark ${f.level}">${f.text}</p>`)}`,
  stepBar(app, 'held', t('master.ask'), () => app.open({ kind: 'master', purpose: 'settle_by_hand' }), {
    off: !isReady || !app.can('settle_by_hand'),
    extra: app.can('prove') ? button(t('doubt.prove'), () => app.send({ command: 'prove' }), { off: app.isBusy }) : nothing,
  }));
}

/** The master at this screen: number and password, for one thing only. @param {App} app */
export function master(app) {
  const purpose = app.dialog?.purpose ?? '';
  const needsReason = purpose === 'override';
  return html`<h1>${t('master', { what: t(`master.${purpose}`) })}</h1>${app.error ? alert(app.error) : html`<p class="hint">${t('master.hint')}</p>`}
    ${needsReason ? choices(t('reason'), list('reasons.override').map(text => [text, text]), app.draft.reason, reason => app.set({ reason }), 'pairs') : nothing}
    ${credentials(app, t('master.number'))}<div class="row">${button(t('back'), () => app.close(), { key: 'Esc' })}
    ${primary(app, t('master.ok'), () => app.approve(), !app.secret.operator || !app.secret.password || (needsReason && !app.draft.reason))}</div>`;
}

/** Two taps, no free text. @param {App} app */
export const cancel = app => html`<h1>${t('cancel.why')}</h1><p class="hint">${t('cancel.safe')}</p>
  ${app.error ? alert(app.error) : nothing}<div class="choices pairs">${list('reasons.cancel').map((reason, i) => html`<button type="button"
  class="option" data-option ?disabled=${!app.can('cancel') || app.isBusy} @click=${() => app.finish({ command: 'cancel', reason })}><kbd aria-hidden="true">${i + 1}</kbd> ${reason}</button>`)}</div>
  <div class="row">${button(t('back'), () => app.close(), { key: 'Esc' })}
  ${app.can('suspend') ? button(t('suspend.long'), () => app.finish({ command: 'suspend' }), { key: 'F11' }) : nothing}
  ${app.can('hand_over') ? button(t('handover'), () => app.open({ kind: 'reason', purpose: 'hand_over', list: 'reasons.handover' })) : nothing}</div>`;

/** @param {App} app */
export const reason = app => html`<h1>${t('reason.why')}</h1>${app.error ? alert(app.error) : nothing}<div class="choices pairs">${
  list(app.dialog?.list ?? '').map((text, i) => html`<button type="button" class="option" data-option ?disabled=${app.isBusy}
  @click=${() => app.giveReason(text)}><kbd aria-hidden="true">${i + 1}</kbd> ${text}</button>`)}</div>
  <div class="row">${button(t('back'), () => app.close(), { key: 'Esc' })}</div>`;

/** @param {Record<string, any>} p */
export const stateName = p => tOr(`state.${p.state}`, p.state);
