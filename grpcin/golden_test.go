package grpcin_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"kafkagrpc/e2e/conformance/records"
	"kafkagrpc/wire"
)

// Each testdata/*.records holds the records of one call as the contract says that Zilla writes them: those of the
// request must be ours, but for headers that it does not know, and those of the reply must reach the caller.
func TestRecordsAsZillaWritesThem(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.records")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".records"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all, err := records.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			var asked, answered []wire.Record
			var values []string
			for _, r := range all {
				if r.Topic == replies {
					r.Partition = 3
					answered = append(answered, r)
					if r.Value != nil {
						values = append(values, string(r.Value))
					}
				} else {
					asked = append(asked, r)
				}
			}
			f := start(t)
			f.kafka.on = func(r wire.Record) {
				if r.Value == nil {
					f.kafka.reply(f.calls, answered...)
				}
			}
			var md []string
			for _, m := range request(t, asked[0]).Metadata {
				md = append(md, m.Name, m.Value)
			}
			c := f.stream(withPatience(t), t, headLine(string(text), "method"), md...)
			for _, r := range asked {
				if r.Value != nil {
					c.send(string(r.Value))
				}
			}
			c.half()
			got, err := c.rest()
			code, _ := strconv.Atoi(headLine(string(text), "status"))
			if status.Code(err) != codes.Code(code) || status.Convert(err).Message() != headLine(string(text), "message") {
				t.Errorf("status %v, want %d %q", err, code, headLine(string(text), "message"))
			}
			if diff := cmp.Diff(values, got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
			header, _ := c.Header()
			want, err := wire.DefaultContract().DecodeReply(answered[0].Headers)
			if err != nil {
				t.Fatal(err)
			}
			for name, values := range want.Metadata.MD() {
				if !slices.Equal(header[name], values) {
					t.Errorf("header %s = %q, want %q", name, header[name], values)
				}
			}
			written := f.kafka.written()
			for i := range written {
				written[i].Headers = slices.DeleteFunc(slices.Clone(written[i].Headers), func(h wire.Header) bool { return strings.HasPrefix(h.Name, "grpc:") })
			}
			if diff := cmp.Diff(records.Format(asked), records.Format(written)); diff != "" {
				t.Errorf("request records (-want +got):\n%s", diff)
			}
		})
	}
}

// headLine is what a comment of the file says.
func headLine(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "# "+name+": "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
