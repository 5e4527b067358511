/** The page: choose a model and an image or the camera, and show what the model finds. */

import { Detector } from './detector.js';

const [model, image, camera, threshold, thresholdText, status, canvas, rows] = [
  'model', 'image', 'camera', 'threshold', 'threshold-text', 'status', 'canvas', 'rows',
].map((id) => document.getElementById(id)); // prettier-ignore
const context = canvas.getContext('2d');
// Images are drawn here to read their pixels. It stays in the main memory, where that changes no value.
const reader = document.createElement('canvas').getContext('2d', { willReadFrequently: true });

let detector = null;
let pixels = null; // ImageData of the current image
let stream = null; // the open camera
let last = Promise.resolve();

/** Run tasks one after the other, and show the error of one that fails. */
function enqueue(task) {
  last = last.then(task).catch((error) => {
    stopCamera();
    say(error.message, true);
  });
  return last;
}

function say(text, failed = false) {
  status.textContent = text;
  status.classList.toggle('error', failed);
}

/** Load the model in an ONNX file. */
async function openModel(file) {
  say(`Loading ${file.name} …`);
  const opened = await Detector.load(new Uint8Array(await file.arrayBuffer()));
  await detector?.release();
  detector = opened;
  threshold.value = detector.info.score_thr;
  showThreshold();
  document.getElementById('model-name').textContent = `Model: ${file.name}`;
  const { classes, input_size } = detector.info;
  say(`${file.name}: ${classes.length} classes, ${input_size[1]} x ${input_size[0]} pixels`);
  if (pixels) await find();
}

/** Fetch the model of `?model=URL`. */
async function fetchModel(url) {
  say(`Loading ${url} …`);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server answers ${response.status}`);
  await openModel(new File([await response.blob()], url.split('/').at(-1)));
}

/** Show an image file, and find objects in it. */
async function openImage(file) {
  stopCamera();
  say(`Reading ${file.name} …`);
  let bitmap;
  try {
    // OpenCV ignores colour profiles as well, and turns images according to their EXIF data.
    bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none', imageOrientation: 'from-image' });
  } catch {
    throw new Error(`${file.name} must be an image that the browser can read.`);
  }
  read(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  show([]);
  await find();
}

/** Keep the pixels of an image. */
function read(source, width, height) {
  [reader.canvas.width, reader.canvas.height] = [width, height];
  reader.drawImage(source, 0, 0);
  pixels = reader.getImageData(0, 0, width, height);
}

/** Find objects in the current image, and show them. */
async function find() {
  if (!detector) return say('Choose a model: an ONNX file of `rtmdet export`.');
  const start = performance.now();
  const found = await detector.detect(pixels, Number(threshold.value));
  const time = performance.now() - start;
  show(found);
  say(`${found.length} object${found.length === 1 ? '' : 's'} in ${time.toFixed(0)} ms`);
}

/** Show the current image with objects, and list them. */
function show(found) {
  [canvas.width, canvas.height] = [pixels.width, pixels.height];
  context.putImageData(pixels, 0, 0);
  // Boxes drawn on a large image that is shown smaller need wider lines and larger names.
  const unit = Math.max(canvas.width / (canvas.clientWidth || canvas.width), 1);
  context.lineWidth = 2 * unit;
  for (const { box, label } of found.toReversed()) drawBox(box, label);
  drawNames(found, unit);
  rows.replaceChildren(...found.map(row));
}

function name(label) {
  return detector.info.classes[label] ?? `class ${label}`;
}

/** The colour of a class in rtmdet_runtime/drawing.py: its hue, saturation 220 and value 255 of 255, as HSL. */
function colour(label) {
  return `hsl(${2 * Math.floor(180 * ((label * 0.618034) % 1))} 100% 56.9%)`;
}

function drawBox([x1, y1, x2, y2], label) {
  context.strokeStyle = colour(label);
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

/** Write names and scores, best ones first; one that would cover another is left to the table. */
function drawNames(found, unit) {
  const [height, margin, taken] = [18 * unit, 3 * unit, []];
  context.font = `${13 * unit}px system-ui, sans-serif`;
  context.textBaseline = 'middle';
  for (const { box, score, label } of found) {
    const text = `${name(label)} ${score.toFixed(2)}`;
    const width = context.measureText(text).width + 2 * margin;
    const left = Math.max(Math.min(box[0] - unit, canvas.width - width), 0);
    const top = Math.max(box[1] - height, 0);
    const covers = ([x1, y1, x2]) => left < x2 && left + width > x1 && Math.abs(top - y1) < height;
    if (taken.some(covers)) continue;
    taken.push([left, top, left + width]);
    context.fillStyle = colour(label);
    context.fillRect(left, top, width, height);
    context.fillStyle = 'black';
    context.fillText(text, left + margin, top + height / 2);
  }
}

/** Return the table's row of an object. */
function row({ box, score, label }) {
  const line = document.createElement('tr');
  for (const text of [name(label), score.toFixed(2), ...box.map((value) => value.toFixed(1))]) {
    line.insertCell().textContent = text;
  }
  line.cells[0].style.setProperty('--colour', colour(label));
  return line;
}

async function startCamera() {
  if (!navigator.mediaDevices) throw new Error('The camera needs a page from https or localhost.');
  stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' } });
  camera.setAttribute('aria-pressed', true);
  const video = Object.assign(document.createElement('video'), { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  const nextFrame = async () => {
    if (video.srcObject !== stream) return;
    read(video, video.videoWidth, video.videoHeight);
    await find();
    if (!detector) return stopCamera();
    requestAnimationFrame(() => enqueue(nextFrame));
  };
  await nextFrame();
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  camera.setAttribute('aria-pressed', false);
}

function showThreshold() {
  thresholdText.textContent = Number(threshold.value).toFixed(2);
}

function open(files) {
  for (const file of files) enqueue(() => (file.name.endsWith('.onnx') ? openModel(file) : openImage(file)));
}

for (const input of [model, image]) {
  input.addEventListener('change', () => {
    open([...input.files]);
    input.value = ''; // so that the same file can be chosen again
  });
}
camera.addEventListener('click', () => enqueue(stream ? stopCamera : startCamera));
threshold.addEventListener('input', showThreshold);
threshold.addEventListener('change', () => enqueue(() => pixels && find()));
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => {
  event.preventDefault();
  open([...event.dataTransfer.files]);
});

const url = new URLSearchParams(location.search).get('model');
enqueue(() => (url ? fetchModel(url) : say('Choose a model and an image, or drop them on this page.')));
