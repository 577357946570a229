/** One field that is wrong, where it stands in the request. */
export type FieldError = { pointer: string; message: string };

/** A refusal of the API (RFC 9457), or that there was no answer at all; `code` is what programs decide by. */
export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  readonly correlationId: string | null;
  readonly errors: readonly FieldError[];
  /** Seconds to wait before it is tried again, where the API says so. */
  readonly retryAfter: number | null;

  constructor(
    code: string,
    detail: string,
    more: {
      status?: number;
      correlationId?: string | null;
      errors?: readonly FieldError[];
      retryAfter?: number | null;
    } = {},
  ) {
    super(detail);
    this.name = "Problem";
    this.code = code;
    this.status = more.status ?? 0;
    this.correlationId = more.correlationId ?? null;
    this.errors = more.errors ?? [];
    this.retryAfter = more.retryAfter ?? null;
  }

  /** What is wrong with the field of this name, if anything is. */
  of(field: string): string | undefined {
    return this.errors.find((error) => error.pointer.split("/").pop() === field)?.message;
  }

  /** Whether the same request may well be taken a moment later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status === 502 || this.status === 503;
  }
}

/** The problem that an answer says; one without a body we know is told by its status. */
export function problemOf(response: Response, body: unknown): Problem {
  const said = isRecord(body) ? body : {};
  const wait = Number(response.headers.get("retry-after"));
  return new Problem(
    typeof said.code === "string" ? said.code : `http_${response.status}`,
    typeof said.detail === "string" ? said.detail : response.statusText || `Status ${response.status}`,
    {
      status: response.status,
      correlationId:
        typeof said.correlation_id === "string"
          ? said.correlation_id
          : response.headers.get("x-correlation-id"),
      errors: Array.isArray(said.errors) ? said.errors.filter(isFieldError) : [],
      retryAfter: Number.isFinite(wait) && wait > 0 ? wait : null,
    },
  );
}

/** Anything that was thrown, as a problem: what is none of ours was a network that gave no answer. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem("offline", error instanceof Error ? error.message : String(error));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isFieldError(value: unknown): value is FieldError {
  return isRecord(value) && typeof value.pointer === "string" && typeof value.message === "string";
}
