// @ts-check
/** Five cues from oscillators, no files. Sound is never the only sign. */

/** @type {Record<string, number[][]>} [Hz, start ms, length ms] */
const CUES = {
  tick: [[1200, 0, 40]],
  ok: [[880, 0, 90], [1320, 110, 140]],
  notice: [[520, 0, 120], [780, 140, 120]],
  error: [[300, 0, 160], [220, 190, 240]],
  lost: [[440, 0, 80], [440, 160, 80], [440, 320, 80]],
};
/** @type {AudioContext | null} */
let audio = null;

/** Browsers give sound only after a person touched the page. */
export function unlock() {
  audio ??= new AudioContext();
  if (audio.state === 'suspended') audio.resume().catch(() => {});
}

/** @param {string} cue @param {number} volume 0 to 1 */
export function play(cue, volume) {
  if (!audio || !volume) return;
  for (const [hertz, start, length] of CUES[cue] ?? []) {
    const tone = audio.createOscillator();
    const gain = audio.createGain();
    const at = audio.currentTime + start / 1000;
    tone.frequency.value = hertz;
    gain.gain.setValueAtTime(volume * 0.3, at);
    gain.gain.exponentialRampToValueAtTime(0.001, at + length / 1000);
    tone.connect(gain).connect(audio.destination);
    tone.start(at);
    tone.stop(at + length / 1000);
  }
  if (cue === 'error' || cue === 'lost') navigator.vibrate?.(200);
}
