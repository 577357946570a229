"use client";

import { useState } from "react";
import { asProblem, type Problem } from "@/lib/problem";

/** Something that may be refused: whether it is under way, and what was wrong with it the last time. */
export function useAttempt() {
  const [problem, setProblem] = useState<Problem | null>(null);
  const [isBusy, setBusy] = useState(false);

  /** Do it; what is thrown is kept as the problem, after which `onRefused` puts right what was begun. */
  async function attempt(work: () => Promise<void>, onRefused?: (problem: Problem) => void): Promise<void> {
    setBusy(true);
    setProblem(null);
    try {
      await work();
    } catch (error) {
      const found = asProblem(error);
      setProblem(found);
      onRefused?.(found);
    } finally {
      setBusy(false);
    }
  }

  return { attempt, isBusy, problem, forget: () => setProblem(null) };
}
