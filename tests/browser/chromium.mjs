// A headless Chromium. It ends with this process: it hears on a pipe.
import { createRequire } from "node:module";

// `import` doesn't look into NODE_PATH, `require` does.
const require = createRequire(import.meta.url);

export function launch() {
  const puppeteer = require("puppeteer-core");
  const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
  return puppeteer.launch({ executablePath: process.env.CALLBOARD_TEST_CHROMIUM, pipe: true, args });
}
