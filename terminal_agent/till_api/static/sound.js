// Short tones, so that the cashier need not look: a card was seen, it is done, something is wrong.

const TUNES = {
  seen: [[880, 0, 0.06]],
  done: [[660, 0, 0.1], [990, 0.11, 0.18]],
  wrong: [[330, 0, 0.16], [247, 0.18, 0.28]],
};

let audio = null;

/** Browsers let a page sound only after somebody touched it; until then this stays silent. */
export function play(tune) {
  audio ??= new AudioContext();
  if (audio.state === "suspended") audio.resume();
  for (const [pitch, start, length] of TUNES[tune]) tone(pitch, audio.currentTime + start, length);
}

function tone(pitch, start, length) {
  const source = audio.createOscillator();
  const volume = audio.createGain();
  source.frequency.value = pitch;
  volume.gain.setValueAtTime(0.15, start);
  volume.gain.exponentialRampToValueAtTime(0.001, start + length);
  source.connect(volume).connect(audio.destination);
  source.start(start);
  source.stop(start + length);
}
