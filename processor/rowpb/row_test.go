package rowpb_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"kafkagrpc/processor/rowpb"
)

func encoded(t *testing.T, row *rowpb.Row) []byte {
	t.Helper()
	b, err := proto.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	whole := encoded(t, &rowpb.Row{
		Version: rowpb.Version, Messages: [][]byte{bytes.Repeat([]byte{0x88, 0x01}, 500)}, Source: &rowpb.Source{Topic: "t", Offset: 7},
		StartedMs: 1, FinishedMs: 2, ExpiresMs: 1_700_000_000_000, MessageCount: 3, SpanId: "span",
	})
	for name, test := range map[string]struct {
		row  []byte
		want int64
	}{
		"a row":         {whole, 1_700_000_000_000},
		"without one":   {encoded(t, &rowpb.Row{Version: rowpb.Version, StartedMs: 5}), 0},
		"nothing":       {nil, 0},
		"cut":           {whole[:20], 0},
		"no row":        {[]byte("\xff\xff no row"), 0},
		"written twice": {append(bytes.Clone(whole), encoded(t, &rowpb.Row{ExpiresMs: 9})...), 9},
	} {
		if got := rowpb.Expiry(test.row); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	row, err := rowpb.Decode(encoded(t, &rowpb.Row{Version: rowpb.Version, Method: "m"}))
	if err != nil || row.Method != "m" {
		t.Errorf("%v, %v", row, err)
	}
	for name, b := range map[string][]byte{
		"of another layout": encoded(t, &rowpb.Row{Version: rowpb.Version + 1}), "without a layout": {}, "no protobuf": []byte("\xff"),
	} {
		if row, err := rowpb.Decode(b); err == nil {
			t.Errorf("a row %s is read as %v", name, row)
		}
	}
}
