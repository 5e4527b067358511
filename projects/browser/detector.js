/**
 * Run a model of `rtmdet export` (formats raw and decoded) with onnxruntime-web. The steps are those of rtmdet_runtime,
 * so the boxes are the same.
 *
 * Images are RGBA, uint8, as in `ImageData`; boxes are xyxy in pixels.
 */

import * as ort from 'onnxruntime-web';

// More threads need two HTTP headers (COOP, COEP), which many hosts of static pages can't send.
ort.env.wasm.numThreads = 1;
ort.env.wasm.proxy = true; // in a worker, so that the page stays responsive

const METADATA = 14; // number of `metadata_props` in ONNX's ModelProto
const PREFIX = 'rtmdet.';

export class Detector {
  /** Load a model from the bytes of an ONNX file; throw an error if `rtmdet export` didn't write it. */
  static async load(model) {
    const info = readInfo(model);
    return new Detector(info, await ort.InferenceSession.create(model));
  }

  constructor(info, session) {
    this.info = info;
    this.session = session;
  }

  /** Return the objects in an image as {box, score, label}, by descending score. */
  async detect(image, scoreThr = this.info.score_thr) {
    const [input, scale] = preprocess(image, this.info);
    const tensor = new ort.Tensor('float32', input, [1, 3, ...this.info.input_size]);
    const outputs = await this.session.run({ images: tensor });
    const candidates = this.info.form === 'raw' ? decodeMaps : selectCandidates;
    const found = classWiseNms(candidates(outputs, this.info, scoreThr), this.info);
    return found.map(({ box, ...rest }) => ({ box: box.map((value, i) => value / scale[i % 2]), ...rest }));
  }

  release() {
    return this.session.release();
  }
}

/** Return the metadata of an ONNX file; see ModelInfo in rtmdet_runtime/info.py. */
export function readInfo(model) {
  const info = {};
  const text = new TextDecoder();
  for (const property of fields(model, METADATA)) {
    const [name, value] = [1, 2].map((number) => text.decode(fields(property, number).next().value));
    if (name.startsWith(PREFIX)) info[name.slice(PREFIX.length)] = JSON.parse(value);
  }
  if (!info.form) throw new Error('The model must be an ONNX file that `rtmdet export` wrote, got no metadata of it.');
  if (!['raw', 'decoded'].includes(info.form)) {
    throw new Error(`The export format must be raw or decoded, got ${info.form}; export with --form decoded.`);
  }
  return info;
}

/** Yield the content of each text, bytes or message field with a number in a message of Protocol Buffers. */
function* fields(message, wanted) {
  let at = 0;
  const readInteger = () => {
    let [value, factor, byte] = [0, 1];
    do {
      byte = message[at++];
      value += (byte & 127) * factor;
      factor *= 128;
    } while (byte & 128);
    return value;
  };
  while (at < message.length) {
    const key = readInteger();
    const type = key % 8;
    if (type === 0) {
      readInteger();
    } else if (type === 2) {
      const length = readInteger();
      if (key >> 3 === wanted) yield message.subarray(at, at + length);
      at += length;
    } else if (type === 1 || type === 5) {
      at += type === 1 ? 8 : 4;
    } else {
      return; // no message
    }
  }
}

/**
 * Resize an image to fit into the upper left of the network's input, pad it on the right and at the bottom, and
 * normalise it.
 *
 * A canvas resizes in a different way than OpenCV's INTER_LINEAR, which takes four pixels however small the result is.
 * This does what OpenCV does, up to a rounding of 1 of 255.
 *
 * @returns The input (3, H, W), float32, and the scale factors [x, y] from the image to the input.
 */
export function preprocess({ data, width, height }, info) {
  const [inputHeight, inputWidth] = info.input_size;
  const ratio = Math.min(inputHeight / height, inputWidth / width);
  const [newHeight, newWidth] = info.keep_ratio
    ? [height, width].map((length) => Math.max(Math.floor(length * ratio + 0.5), 1))
    : info.input_size;
  const rows = interpolation(height, newHeight);
  const columns = interpolation(width, newWidth);
  const plane = inputHeight * inputWidth;
  const input = new Float32Array(3 * plane);
  for (let channel = 0; channel < 3; channel++) {
    const source = info.to_rgb ? channel : 2 - channel; // index into RGBA
    const table = Float32Array.from({ length: 256 }, (_, value) => (value - info.mean[channel]) / info.std[channel]);
    const padding = table[Math.round(info.pad_value[2 - source])]; // pad_value is BGR
    input.fill(padding, channel * plane, (channel + 1) * plane);
    for (let y = 0; y < newHeight; y++) {
      const [top, bottom] = [rows.low[y], rows.high[y]].map((row) => row * width * 4 + source);
      const out = channel * plane + y * inputWidth;
      for (let x = 0; x < newWidth; x++) {
        const [left, right, share] = [4 * columns.low[x], 4 * columns.high[x], columns.share[x]];
        const above = data[top + left] + (data[top + right] - data[top + left]) * share;
        const below = data[bottom + left] + (data[bottom + right] - data[bottom + left]) * share;
        input[out + x] = table[Math.floor(above + (below - above) * rows.share[y] + 0.5)];
      }
    }
  }
  return [input, [newWidth / width, newHeight / height]];
}

/** Return the two pixels that each pixel of a resized row is between, and the share of the second one. */
function interpolation(length, newLength) {
  const [low, high, share] = [new Int32Array(newLength), new Int32Array(newLength), new Float64Array(newLength)];
  for (let i = 0; i < newLength; i++) {
    const position = Math.min(Math.max(((i + 0.5) * length) / newLength - 0.5, 0), length - 1);
    low[i] = Math.floor(position);
    high[i] = Math.min(low[i] + 1, length - 1);
    share[i] = position - low[i];
  }
  return { low, high, share };
}

/** Return the candidates above the score threshold from the maps of the export format raw. */
function decodeMaps(outputs, { strides, exp_on_reg, input_size }, scoreThr) {
  const found = [];
  const [inputHeight, inputWidth] = input_size;
  for (const stride of strides) {
    const [logits, sides] = [outputs[`cls_${stride}`].data, outputs[`reg_${stride}`].data];
    const width = inputWidth / stride;
    const cells = width * (inputHeight / stride);
    for (let i = 0; i < logits.length; i++) {
      const score = checked(1 / (1 + Math.exp(-logits[i])));
      if (score <= scoreThr) continue;
      const cell = i % cells;
      const [x, y] = [(cell % width) * stride, Math.floor(cell / width) * stride];
      const [left, top, right, bottom] = [0, 1, 2, 3].map((side) => {
        const distance = checked(sides[side * cells + cell]);
        return (exp_on_reg ? Math.exp(distance) : distance) * stride;
      });
      const box = [x - left, y - top, x + right, y + bottom];
      const clipped = box.map((value, side) => Math.min(Math.max(value, 0), side % 2 ? inputHeight : inputWidth));
      found.push({ box: clipped, score, label: Math.floor(i / cells) });
    }
  }
  return found;
}

/** Return the candidates above the score threshold from the outputs of the export format decoded. */
function selectCandidates({ boxes, scores }, { classes }, scoreThr) {
  const found = [];
  for (let i = 0; i < scores.data.length; i++) {
    const score = checked(scores.data[i]);
    if (score <= scoreThr) continue;
    const prior = Math.floor(i / classes.length);
    found.push({ box: [...boxes.data.subarray(4 * prior, 4 * prior + 4)], score, label: i % classes.length });
  }
  return found;
}

function checked(value) {
  if (Number.isNaN(value)) throw new Error("The network's outputs must be numbers, got NaN; export the model again.");
  return value;
}

/** Remove boxes that overlap a better box of their class; return the best ones by descending score. */
export function classWiseNms(candidates, { iou_thr, nms_pre, max_per_img }) {
  const valid = candidates.filter(({ box: [x1, y1, x2, y2] }) => x2 > x1 && y2 > y1);
  const best = valid.sort((one, other) => other.score - one.score).slice(0, nms_pre);
  const kept = [];
  for (const one of best) {
    if (kept.length === max_per_img) break;
    if (!kept.some((other) => other.label === one.label && iou(one.box, other.box) > iou_thr)) kept.push(one);
  }
  return kept;
}

function iou(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const intersection = Math.max(width, 0) * Math.max(height, 0);
  return intersection / (area(one) + area(other) - intersection);
}

function area([x1, y1, x2, y2]) {
  return (x2 - x1) * (y2 - y1);
}
