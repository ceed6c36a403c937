// From disk a browser starts no worker, and the search would stay silent: run its script in a frame.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = [] // messages from before the script is there
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.addEventListener("load", () => this.start(frame, String(url)), { once: true })
      document.body.append(frame)
    }

    start(frame, url) {
      const inside = frame.contentWindow
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      script.src = new URL(url, location)
      script.onload = () => {
        this.postMessage = data =>
          inside.dispatchEvent(new inside.MessageEvent("message", { data }))
        this.waiting.forEach(data => this.postMessage(data))
      }
      inside.document.body.append(script)
    }

    postMessage(data) {
      this.waiting.push(data)
    }

    terminate() {}
  }
