/** Photo files: read upright, in sRGB; written with the label that they are synthetic. */

const MOST_MEGAPIXELS = 100;
const KINDS = /^image\/(avif|bmp|gif|jpeg|png|webp)$/;

/**
 * Pixels of a file (Blob): { width, height, pixels (RGBA), type, name, notes }; `notes` say what a result does not keep. Throws an
 * Error whose message is for the reader.
 */
export async function readPhoto(blob) {
  const name = blob.name ?? "The photo";
  if (!KINDS.test(blob.type)) {
    throw new Error(`${name} is not a photo that browsers can read. Take a JPEG, PNG, WebP, AVIF, GIF or BMP file.`);
  }
  const damaged = new Error(`${name} cannot be read: the file is damaged, or too large for this browser.`);
  if ((await pixelCount(blob, damaged)) > MOST_MEGAPIXELS * 1e6) {
    throw new Error(`${name} has more than ${MOST_MEGAPIXELS} megapixels; make it smaller.`);
  }
  let bitmap;
  try {
    // Turned by its EXIF orientation.
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw damaged;
  }
  const { width, height } = bitmap;
  try {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
    context.drawImage(bitmap, 0, 0);
    let pixels = context.getImageData(0, 0, width, height).data;
    const notes = [];
    if (isTransparent(pixels)) {
      notes.push(`${name} is transparent in parts: they become white.`);
      context.globalCompositeOperation = "destination-over"; // Behind what is there.
      context.fillStyle = "white";
      context.fillRect(0, 0, width, height);
      pixels = context.getImageData(0, 0, width, height).data;
    }
    if (await isAnimated(blob)) notes.push(`${name} is an animation: only its first picture is used.`);
    if (await hasWidePixels(blob)) notes.push(`${name} has 16 bits a channel: the result has 8.`);
    return { width, height, pixels, type: blob.type, name, notes };
  } catch {
    throw new Error(`${name} is too large for this browser; make it smaller.`);
  } finally {
    bitmap.close();
  }
}

/** How many pixels a photo has by its header: browsers decode an <img> when it is drawn. Throws `damaged` if it has none. */
async function pixelCount(blob, damaged) {
  const image = new Image();
  const address = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: () => reject(damaged), src: address }));
    return image.naturalWidth * image.naturalHeight;
  } finally {
    URL.revokeObjectURL(address);
  }
}

function isTransparent(pixels) {
  for (let i = 3; i < pixels.length; i += 4) if (pixels[i] < 255) return true;
  return false;
}

/** Whether a file has several pictures; not known, and so false, in browsers without ImageDecoder and over plain http. */
async function isAnimated(blob) {
  try {
    const decoder = new ImageDecoder({ data: blob.stream(), type: blob.type });
    await decoder.completed;
    const { frameCount } = decoder.tracks.selectedTrack;
    decoder.close();
    return frameCount > 1;
  } catch {
    return false;
  }
}

/** Whether a file is a PNG with 16 bits a channel. */
async function hasWidePixels(blob) {
  const [bits] = new Uint8Array(await blob.slice(24, 25).arrayBuffer());
  return blob.type === "image/png" && bits === 16;
}

/** A photo's name and file, in its format if that is JPEG and else as PNG, with the `label` of site.json. */
export async function writePhoto({ width, height, pixels, type, name }, label) {
  const jpeg = type === "image/jpeg";
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  const encoded = await canvas.convertToBlob({ type: jpeg ? "image/jpeg" : "image/png", quality: 0.95 });
  const bytes = (jpeg ? labelledJpeg : labelledPng)(new Uint8Array(await encoded.arrayBuffer()), label);
  const stem = name.replace(/\.[^.]*$/, "");
  return { name: `${stem}.unmasked.${jpeg ? "jpg" : "png"}`, blob: new Blob([bytes], { type: encoded.type }) };
}

/** A JPEG with the XMP packet as its first segment after the header, and the label as a comment. */
function labelledJpeg(bytes, { text, xmp }) {
  const segment = (marker, ...parts) => {
    const data = joined(...parts);
    return joined([0xff, marker, (data.length + 2) >> 8, (data.length + 2) & 255], data);
  };
  const header = bytes[2] === 0xff && bytes[3] === 0xe0 ? 4 + bytes[4] * 256 + bytes[5] : 2;
  const packet = segment(0xe1, encode("http://ns.adobe.com/xap/1.0/\0"), encode(xmp));
  return joined(bytes.subarray(0, header), packet, segment(0xfe, encode(text)), bytes.subarray(header));
}

/** A PNG with the label as a comment and the XMP packet, before its pixels. */
function labelledPng(bytes, { text, xmp }) {
  const chunk = (kind, ...parts) => {
    const data = joined(encode(kind), ...parts);
    return joined(bigEndian(data.length - 4), data, bigEndian(crc(data)));
  };
  const header = 33; // The signature and IHDR.
  const comment = chunk("tEXt", encode("Comment\0"), encode(text));
  const packet = chunk("iTXt", encode("XML:com.adobe.xmp\0\0\0\0\0"), encode(xmp));
  return joined(bytes.subarray(0, header), comment, packet, bytes.subarray(header));
}

const encode = (text) => new TextEncoder().encode(text);
const bigEndian = (number) => [24, 16, 8, 0].map((shift) => (number >>> shift) & 255);

function joined(...parts) {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    result.set(part, place);
    place += part.length;
  }
  return result;
}

function crc(data) {
  let value = 0xffffffff;
  for (const byte of data) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  }
  return ~value >>> 0;
}
