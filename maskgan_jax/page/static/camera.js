/** A camera's live picture: its frames one after another, as fast as they are worked on. */

/** Frames are made no wider than this, in pixels. */
const WIDEST = 640;

export class Camera {
  /** What it gives while it is on, another one each time that it is started; else null. */
  stream = null;

  constructor(video) {
    this.video = video;
  }

  /** Throws an Error whose message is for the reader if there is no camera, or it may not or cannot be used. */
  async start() {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give a camera only to pages over https or on localhost: open this page so, or choose a photo.");
    }
    try {
      const wanted = { video: { facingMode: "user", width: { ideal: 1280 } }, audio: false };
      this.stream = await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      const refused = error.name === "NotAllowedError";
      throw new Error(
        refused
          ? "The camera may not be used: allow it for this page in the browser's settings, or choose a photo."
          : "No camera was found, or another program uses it. Choose a photo instead.",
      );
    }
    this.video.srcObject = this.stream;
    try {
      await this.video.play();
    } catch {
      if (!this.stream) return; // It was stopped meanwhile.
      this.stop();
      throw new Error("The camera gives no picture. Choose a photo instead.");
    }
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }

  /** What the camera sees now: { width, height, pixels }, at full size or made smaller. */
  frame(whole = false) {
    const scale = whole ? 1 : Math.min(1, WIDEST / this.video.videoWidth);
    const [width, height] = [this.video.videoWidth, this.video.videoHeight].map((side) => Math.max(1, Math.round(side * scale)));
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.video, 0, 0, width, height);
    return { width, height, pixels: context.getImageData(0, 0, width, height).data };
  }
}
