// A headless Chromium. It ends with this process: it hears on a pipe.
import { createRequire } from "node:module";

// `import` doesn't look into NODE_PATH, `require` does.
const require = createRequire(import.meta.url);

/** In milliseconds, for everything that must happen. Puppeteer's own half minute is not enough where many pages share a slow machine. */
export const PATIENCE = 120_000;

export function launch() {
  const puppeteer = require("puppeteer-core");
  const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
  return puppeteer.launch({ executablePath: process.env.CALLBOARD_TEST_CHROMIUM, pipe: true, args, timeout: PATIENCE, protocolTimeout: PATIENCE });
}
