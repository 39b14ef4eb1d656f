// Questions to the kernel and its answers.

const BEAT_MS = 2000;
const PATIENCE_MS = 5000;
const STOPPED = ["dead", "terminating", "restarting", "autorestarting"];

class Kernel {
  constructor(model, signal) {
    this.model = model;
    this.asked = new Map();
    this.number = 0;
    this.state = "answers";
    this.listeners = new Set();
    model.on("msg:custom", (answer, buffers) => this.hear(answer, buffers));
    for (const event of ["comm_live_update", "comm:close"]) model.on(event, () => this.watch());
    const timer = setInterval(() => this.watch(), BEAT_MS);
    signal?.addEventListener("abort", () => clearInterval(timer));
  }

  /** The kernel's answer, or an Error in its words. */
  ask(kind, content = {}) {
    const number = ++this.number;
    return new Promise((resolve, reject) => {
      this.asked.set(number, {resolve, reject, progress: content.progress});
      try {
        this.model.send({...content, progress: undefined, kind, number});
      } catch {
        this.asked.delete(number);
        this.become("gone");
        reject(new Error("the kernel has stopped"));
      }
    });
  }

  hear(answer, buffers) {
    this.askedAt = undefined;
    this.become("answers");
    const question = this.asked.get(answer.number);
    if (!question) return;
    if (answer.kind === "progress") return question.progress?.(answer.done);
    this.asked.delete(answer.number);
    if (answer.kind === "error") question.reject(new Error(answer.text));
    else question.resolve({answer, buffers});
  }

  /** Ask whether it is there, and see whether it answered. A page in the background may be late to look, so the question counts. */
  watch() {
    const kernel = this.model.widget_manager?.kernel;
    const stopped = kernel && (kernel.isDisposed || STOPPED.includes(kernel.status));
    const silent = this.askedAt && performance.now() - this.askedAt > PATIENCE_MS;
    if (stopped) this.become("gone");
    else if (silent) this.become(kernel && kernel.status !== "busy" ? "gone" : "silent");
    if (this.askedAt && !silent) return;
    const asked = this.ask("ping");
    this.askedAt = performance.now();
    asked.catch(() => { this.askedAt = undefined; });
  }

  become(state) {
    if (state === this.state) return;
    this.state = state;
    for (const listener of this.listeners) listener(state);
  }
}
