import { type ComponentProps, type ReactNode, useId } from "react";

type Common = { label: string; error?: string | undefined; wide?: boolean };

function Frame({ id, label, error, wide, children }: Common & { id: string; children: ReactNode }) {
  return (
    <div className={wide ? "field wide" : "field"}>
      <label htmlFor={id}>{label}</label>
      {children}
      {error ? (
        <p className="field-error" id={`${id}-error`}>
          {error}
        </p>
      ) : null}
    </div>
  );
}

function wrong(id: string, error: string | undefined) {
  return error ? { "aria-invalid": true, "aria-describedby": `${id}-error` } : {};
}

/** One line of text, a date, a password: whatever `type` says. What the server finds wrong stands below it. */
export function TextField({ label, error, wide, ...input }: Common & ComponentProps<"input">) {
  const id = useId();
  return (
    <Frame id={id} label={label} error={error} wide={wide ?? false}>
      <input {...input} {...wrong(id, error)} id={id} className="input" />
    </Frame>
  );
}

export function TextArea({ label, error, wide = true, ...input }: Common & ComponentProps<"textarea">) {
  const id = useId();
  return (
    <Frame id={id} label={label} error={error} wide={wide}>
      <textarea {...input} {...wrong(id, error)} id={id} className="input" />
    </Frame>
  );
}

export type Choice = { value: string; label: string };

export function SelectField({
  label,
  error,
  wide,
  choices,
  ...select
}: Common & ComponentProps<"select"> & { choices: readonly Choice[] }) {
  const id = useId();
  return (
    <Frame id={id} label={label} error={error} wide={wide ?? false}>
      <select {...select} {...wrong(id, error)} id={id} className="input">
        {choices.map((choice) => (
          <option key={choice.value} value={choice.value}>
            {choice.label}
          </option>
        ))}
      </select>
    </Frame>
  );
}
