import { describe, expect, it } from "vitest";
import { localeOf } from "@/lib/messages";
import de from "@/messages/de.json";
import en from "@/messages/en.json";

type Tree = { [name: string]: string | Tree };

function leaves(tree: Tree, path = ""): [string, string][] {
  return Object.entries(tree).flatMap(([name, value]): [string, string][] =>
    typeof value === "string" ? [[path + name, value]] : leaves(value, `${path}${name}.`),
  );
}

/** The names that a text takes in, and the tags around its parts; what stands within a choice is words. */
function slots(text: string): string[] {
  const found = [...text.matchAll(/<(\w+)>/g)].map((match) => match[1] ?? "");
  let depth = 0;
  for (const [index, character] of [...text].entries()) {
    if (character === "{" && depth === 0) found.push(/^\w+/.exec(text.slice(index + 1))?.[0] ?? "");
    depth += { "{": 1, "}": -1 }[character] ?? 0;
  }
  return found.toSorted();
}

describe("the catalogues", () => {
  it("have the same texts, with the same slots", () => {
    const shape = (tree: Tree) => leaves(tree).map(([path, text]) => [path, slots(text)]);
    expect(shape(de)).toEqual(shape(en));
  });
  it("leave no text empty", () => {
    expect([...leaves(en), ...leaves(de)].filter(([, text]) => text.trim() === "")).toEqual([]);
  });
});

describe("localeOf", () => {
  it.each([
    ["de", "en-US,en", "de"],
    [undefined, "fr-CH, de;q=0.8, en;q=0.5", "de"],
    ["xx", null, "en"],
  ] as const)("of %s and %s is %s", (chosen, accepted, locale) => {
    expect(localeOf(chosen, accepted)).toBe(locale);
  });
});
