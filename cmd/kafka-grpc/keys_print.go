package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"kafkagrpc/internal/texttable"
	"kafkagrpc/views/viewspb"
)

var keyColumns = []string{"KEY", "FINISHED", "STATUS", "STATE", "METHOD", "TRIES", "MESSAGE"}

// keyOf is a key as a person can read it: quoted, with all of its bytes, where it is no text.
func keyOf(of viewspb.Keyed) string { return texttable.Text(viewspb.KeyOf(of)) }

func keyRow(e *viewspb.Entry) []string {
	if e.Unreadable != "" {
		return []string{keyOf(e), "-", "-", "unreadable", "-", "-", texttable.Text(e.Unreadable)}
	}
	message := "-"
	if e.Message != "" {
		message = texttable.Text(e.Message)
	}
	return []string{keyOf(e), momentOf(e.Finished), e.Status, e.State, texttable.Text(e.Service + "/" + e.Method), fmt.Sprint(e.Attempts), message}
}

func momentOf(at *timestamppb.Timestamp) string {
	if at == nil {
		return "-"
	}
	return at.AsTime().Format(time.RFC3339)
}

// printStory prints all that is known of a key, a line each.
func printStory(out io.Writer, r *viewspb.GetResponse) error {
	e := r.Entry
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-15s%s\n", name, fmt.Sprintf(format, args...))
	}
	line("key", "%s", keyOf(e))
	line("group", "%s", e.Group)
	if e.Unreadable != "" {
		line("unreadable", "%s", texttable.Text(e.Unreadable))
		_, err := io.WriteString(out, b.String())
		return err
	}
	line("status", "%s (%d)", e.Status, e.Code)
	if e.Message != "" {
		line("message", "%s", texttable.Text(e.Message))
	}
	line("state", "%s", e.State)
	if e.Waiting > 0 {
		line("waiting", "%d", e.Waiting)
	}
	if e.Behind != "" {
		line("behind", "%s", texttable.Text(e.Behind))
	}
	if e.NextTry != nil {
		line("next try", "%s", momentOf(e.NextTry))
		line("retried until", "%s", momentOf(e.RetriedUntil))
	}
	line("method", "%s", texttable.Text(e.Service+"/"+e.Method))
	line("correlation id", "%s", texttable.Text(e.CorrelationId))
	line("target", "%s", texttable.Text(e.Target))
	line("tries", "%d", e.Attempts)
	if s := e.Source; s != nil {
		line("request", "%s %d@%d of %s", s.Topic, s.Partition, s.Offset, momentOf(s.Timestamp))
	}
	took := ""
	if e.Started != nil && e.Finished != nil {
		took = fmt.Sprintf(" (%s)", e.Finished.AsTime().Sub(e.Started.AsTime()))
	}
	line("started", "%s", momentOf(e.Started))
	line("finished", "%s%s", momentOf(e.Finished), took)
	line("expires", "%s", momentOf(e.Expires))
	if e.TraceId != "" {
		line("trace", "%s", e.TraceId)
	}
	printMetadata(line, "metadata", e.Metadata)
	for i, m := range e.Messages {
		name := fmt.Sprintf("message %d", i+1)
		if m.Json == nil {
			line(name, "%d bytes, not decoded: %s", len(m.Data), texttable.Text(m.Undecoded))
			continue
		}
		text, err := compactJSON(m.Json)
		if err != nil {
			return err
		}
		line(name, "%s", texttable.JSON(text))
	}
	printMetadata(line, "trailer", e.Trailers)
	line("as of", "%s", momentOf(r.Freshness.AsOf))
	_, err := io.WriteString(out, b.String())
	return err
}

func printMetadata(line func(name, format string, args ...any), name string, fields []*viewspb.Metadata) {
	for _, f := range fields {
		if len(f.RawValue) > 0 {
			line(name, "%s: %x", texttable.Text(f.Name), f.RawValue)
			continue
		}
		line(name, "%s: %s", texttable.Text(f.Name), texttable.Text(f.Value))
	}
}

// compactJSON is always the same for the same message, which protojson on its own is not.
func compactJSON(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = json.Compact(&b, text)
	return b.Bytes(), err
}

func printJSON(out io.Writer, m proto.Message, indent bool) error {
	text, err := compactJSON(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if indent {
		if err := json.Indent(&b, text, "", "  "); err != nil {
			return err
		}
	} else {
		b.Write(text)
	}
	b.WriteByte('\n')
	_, err = out.Write(b.Bytes())
	return err
}
