/** What a person has to do before a request is taken: sign in anew, or prove again who they are. */
export type Need = "sign-in" | "step-up";

type Ask = (need: Need) => Promise<boolean>;

let asker: Ask | null = null;
let asked: Promise<boolean> | null = null;

/** The page's dialog takes this over while it is there. */
export function attend(ask: Ask): () => void {
  asker = ask;
  return () => {
    if (asker === ask) asker = null;
  };
}

/**
 * Whether the person did what is needed. Several requests that need it at once ask once; without a page to ask in
 * nobody did.
 */
export function pass(need: Need): Promise<boolean> {
  if (asker === null) return Promise.resolve(false);
  asked ??= asker(need).finally(() => {
    asked = null;
  });
  return asked;
}
