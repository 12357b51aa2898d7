package telemetry

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// textual lets an exporter see text only. Names of methods, keys and messages are what strangers wrote, in any bytes, and an exporter
// of OTLP refuses a whole batch of spans for one byte that is not UTF-8.
type textual struct{ sdktrace.SpanExporter }

// ExportSpans implements sdktrace.SpanExporter.
func (t textual) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	copied := false
	for i, s := range spans {
		if isText(s) {
			continue
		}
		if !copied {
			spans, copied = slices.Clone(spans), true
		}
		spans[i] = textSpan{s}
	}
	return t.SpanExporter.ExportSpans(ctx, spans)
}

func isText(s sdktrace.ReadOnlySpan) bool {
	return utf8.ValidString(s.Name()) && utf8.ValidString(s.Status().Description) && areText(s.Attributes()) &&
		!slices.ContainsFunc(s.Events(), func(e sdktrace.Event) bool { return !utf8.ValidString(e.Name) || !areText(e.Attributes) }) &&
		!slices.ContainsFunc(s.Links(), func(l sdktrace.Link) bool { return !areText(l.Attributes) })
}

func areText(all []attribute.KeyValue) bool {
	return !slices.ContainsFunc(all, func(a attribute.KeyValue) bool {
		switch a.Value.Type() {
		case attribute.STRING:
			return !utf8.ValidString(a.Value.AsString())
		case attribute.STRINGSLICE:
			return slices.ContainsFunc(a.Value.AsStringSlice(), func(s string) bool { return !utf8.ValidString(s) })
		}
		return false
	})
}

// textSpan is a span with U+FFFD in the place of bytes that are no text.
type textSpan struct{ sdktrace.ReadOnlySpan }

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func texts(all []attribute.KeyValue) []attribute.KeyValue {
	out := slices.Clone(all)
	for i, a := range out {
		switch a.Value.Type() {
		case attribute.STRING:
			out[i].Value = attribute.StringValue(text(a.Value.AsString()))
		case attribute.STRINGSLICE:
			values := a.Value.AsStringSlice()
			for n := range values {
				values[n] = text(values[n])
			}
			out[i].Value = attribute.StringSliceValue(values)
		}
	}
	return out
}

// Name implements sdktrace.ReadOnlySpan.
func (s textSpan) Name() string { return text(s.ReadOnlySpan.Name()) }

// Status implements sdktrace.ReadOnlySpan.
func (s textSpan) Status() sdktrace.Status {
	status := s.ReadOnlySpan.Status()
	status.Description = text(status.Description)
	return status
}

// Attributes implements sdktrace.ReadOnlySpan.
func (s textSpan) Attributes() []attribute.KeyValue { return texts(s.ReadOnlySpan.Attributes()) }

// Events implements sdktrace.ReadOnlySpan.
func (s textSpan) Events() []sdktrace.Event {
	out := slices.Clone(s.ReadOnlySpan.Events())
	for i := range out {
		out[i].Name, out[i].Attributes = text(out[i].Name), texts(out[i].Attributes)
	}
	return out
}

// Links implements sdktrace.ReadOnlySpan.
func (s textSpan) Links() []sdktrace.Link {
	out := slices.Clone(s.ReadOnlySpan.Links())
	for i := range out {
		out[i].Attributes = texts(out[i].Attributes)
	}
	return out
}
