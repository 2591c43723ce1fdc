/** What a person has keyed and not yet sent. Pure; no money lives here. */
import { blank, editorOf, guessColour, kind } from './plate.js';

const BACK = { plate: 'submit_plate', vehicle: 'classify' };

export const mayLook = (name, s) => s.allowed.includes(BACK[name]);

export const before = (screen, s) => [{ fare: 'vehicle', vehicle: 'plate' }[screen]].find(name => mayLook(name, s));

export const emptyDraft = (passage = '') => ({
  passage, editor: blank(), from: '', touched: false, typed: false, colour: 0, colourTouched: false, photo: null, hex: '', type: null,
  class: null, axles: null, kilos: '', weightReason: '', look: '', means: 'cash', fen: '', reason: '',
});

/** The plate comes from the camera or from what was submitted, never from card or tag. What another screen types is
 * looked at, and gone on with after a take-over; of our own we know more than the gateway. */
export function adopt(draft, { passage, draft: told }, isMine) {
  if (!passage) return draft.passage ? emptyDraft() : draft;
  const kept = isMine && draft.passage === passage.id ? draft : { ...emptyDraft(passage.id), ...told };
  const source = passage.plate ? passage : passage.lpr;
  if (kept.touched || kept.from || !source?.plate) return kept;
  return { ...kept, editor: editorOf(source.plate), from: source.plate, colour: source.colour ?? guessColour(source.plate), colourTouched: source.colour != null };
}

export const plateOf = draft => draft.editor.chars.join('');

export function edited(draft, editor) {
  const plate = editor.chars.join('');
  return { ...draft, editor, colour: draft.colourTouched ? draft.colour : guessColour(plate), touched: true, typed: draft.typed || !plate };
}

export const plateReady = draft => kind(plateOf(draft)) !== null;

export function doubts({ editor }, s, threshold = 0.9) {
  const { plate = '', confidence = [] } = s.passage?.lpr ?? {};
  return new Set([...plate].map((char, place) => (confidence[place] < threshold && editor.chars[place] === char ? place : -1)).filter(place => place >= 0));
}

export const typeSaid = ({ passage: { card, tag } }) => card?.vehicle_type ?? tag?.vehicle_type ?? null;

export const typeOf = (draft, s) => draft.type ?? s.passage.vehicle.type ?? typeSaid(s);

export const classOf = (draft, s) => draft.class ?? s.passage.vehicle.class ?? 0;

/** What is due until another sum is keyed, and why it came to people until another reason is chosen. */
export const fenOf = ({ fen }, { passage }) => Number(fen || passage.quote?.amount_fen || 0);

export const reasonOf = ({ reason }, { passage }) => reason || passage.reason;

export const isTruck = type => type !== null && type > 10;

/** Axles most likely for a type (JT/T 489-2019); the collector corrects them. */
export const axlesOf = (type, draft, s) => draft.axles ?? s.passage.vehicle.axle_count ?? Math.max(2, type % 10);

export function kilosOf(draft, { passage, state, devices: { scale } }) {
  if (draft.kilos) return Number(draft.kilos);
  if (passage.vehicle.weight_kg != null && state !== 'classified') return passage.vehicle.weight_kg;
  return scale?.is_stable !== false ? scale?.weight_kg || null : null;
}
