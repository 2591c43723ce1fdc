/** Tones of 120 ms, in Hz. */

const CUES = { tick: [1200], ok: [880, 1320], notice: [520, 780], error: [300, 220], lost: [440, 440, 440] };
let audio;

/** Browsers give sound only after a person touched the page. */
export function unlock() {
  audio ??= new AudioContext();
  audio.resume().catch(() => {});
}

export function play(cue, volume) {
  if (cue === 'error' || cue === 'lost') navigator.vibrate?.(200);
  CUES[cue].forEach((hertz, place) => {
    if (!audio || !volume) return;
    const tone = audio.createOscillator();
    const gain = audio.createGain();
    const at = audio.currentTime + place * 0.16;
    tone.frequency.value = hertz;
    gain.gain.value = volume * 0.3;
    tone.connect(gain).connect(audio.destination);
    tone.start(at);
    tone.stop(at + 0.12);
  });
}
