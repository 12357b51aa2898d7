package texttable_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"kafkagrpc/internal/texttable"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	rows := [][]string{{"KEY", "TIME", "MESSAGE"}, {"a", "12:00:00.000", "a message of some length"}, {"käse", "", ""}}
	tests := []struct {
		name  string
		rows  [][]string
		width int
		last  []string
		want  []string
	}{
		{"it fits", rows, 44, nil, []string{"KEY   TIME          MESSAGE", "a     12:00:00.000  a message of some length", "käse"}},
		{"one less", rows, 43, nil, []string{"KEY   TIME          MESSAGE", "a     12:00:00.000  a message of some le...", "käse"}},
		{"the widest give way together", rows, 27, nil, []string{"KEY   TIME       MESSAGE", "a     12:00:...  a messa...", "käse"}},
		{"some last", rows, 22, []string{"TIME"}, []string{"KEY   TIME      MESSAGE", "a     12:00...  a mes...", "käse"}},
		{"some last of all", rows, 27, []string{"MESSAGE", "TIME"}, []string{"KEY   TIME         MESSAGE", "a     12:00:00...  a mes...", "käse"}},
		{"others before", rows, 28, []string{"TIME"}, []string{"KEY   TIME          MESSAGE", "a     12:00:00.000  a mes...", "käse"}},
		{"no narrower than that", rows, 1, nil, []string{"KEY   TIME      MESSAGE", "a     12:00...  a mes...", "käse"}},
		{"of no width", rows, 0, nil, []string{"KEY   TIME          MESSAGE", "a     12:00:00.000  a message of some length", "käse"}},
		{"names alone", rows[:1], 80, nil, []string{"KEY  TIME  MESSAGE"}},
		{"wide characters", [][]string{{"KEY", "N"}, {"注文-四十二", "1"}, {"주문", "2"}, {"🍣🍣", "3"}, {"e\u0301te\u0301", "4"}, {"αβ±", "5"}}, 0, nil,
			[]string{"KEY          N", "注文-四十二  1", "주문         2", "🍣🍣         3", "e\u0301te\u0301          4", "αβ±          5"}},
		{"wide characters are cut whole", [][]string{{"KEY", "N"}, {"注文注文注文", "1"}, {"a注文注文注文", "2"}}, 12, nil,
			[]string{"KEY        N", "注文注...  1", "a注文...   2"}},
		{"marks stay with their letters", [][]string{{"KEY"}, {strings.Repeat("e\u0301", 9)}, {"👍🏽👍🏽👍🏽👍🏽👍🏽"}}, 8, nil,
			[]string{"KEY", strings.Repeat("e\u0301", 5) + "...", "👍🏽👍🏽..."}},
		{"by characters, not bytes", [][]string{{"K"}, {strings.Repeat("ä", 9)}}, 8, nil, []string{"K", "äääää..."}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			if err := texttable.Write(&out, test.rows, test.width, test.last...); err != nil {
				t.Fatal(err)
			}
			if want := strings.Join(test.want, "\n") + "\n"; out.String() != want {
				t.Errorf("wrote\n%swant\n%s", out.String(), want)
			}
		})
	}
}

// Later rows are cut to the columns, not the columns widened.
func TestFixed(t *testing.T) {
	t.Parallel()
	columns := texttable.Fixed([][]string{{"KEY", "N", "STATUS"}, {"0123456789", "12", "OK"}}, 80)
	var out strings.Builder
	for _, row := range [][]string{{"0123456789a", "123", "NOT_FOUND"}, {"b", "1", "OK"}} {
		if err := columns.Write(&out, [][]string{row}); err != nil {
			t.Fatal(err)
		}
	}
	if want := "0123456...  12  NOT...\nb           1   OK\n"; out.String() != want {
		t.Errorf("wrote\n%swant\n%s", out.String(), want)
	}
}

// Without a width a wider cell is whole, and moves the rest of its line.
func TestFixedOfNoWidth(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	row := []string{"0123456789a", "1", "OK"}
	if err := texttable.Fixed([][]string{{"KEY", "N", "STATUS"}}, 0).Write(&out, [][]string{row}); err != nil {
		t.Fatal(err)
	}
	if want := "0123456789a  1  OK\n"; out.String() != want {
		t.Errorf("wrote %q, want %q", out.String(), want)
	}
}

type broken struct{}

var errBroken = errors.New("broken pipe")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteSaysThatItFailed(t *testing.T) {
	t.Parallel()
	if err := texttable.Write(broken{}, [][]string{{"KEY"}}, 80); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"order-42":    "order-42",
		"two words":   "two words",
		"käse":        "käse",
		`a "b"`:       `a "b"`,
		"":            `""`,
		"-":           `"-"`,
		"null":        `"null"`,
		`"quoted"`:    `"\"quoted\""`,
		" before":     `" before"`,
		"after ":      `"after "`,
		"\x1b[31mred": `"\x1b[31mred"`,
		"two\nlines":  `"two\nlines"`,
		"\xff":        `"\xff"`,
		"\u202eabc":   `"\u202eabc"`,
	} {
		if got := texttable.Text(text); got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"message":"käse \u001b[31m"}`:     `{"message":"käse \u001b[31m"}`,
		"{\"message\":\"\u009b31m\u202e\"}": `{"message":"\u009b31m\u202e"}`,
		"\"\U000e0001\"":                    `"\udb40\udc01"`,
	} {
		got := texttable.JSON([]byte(text))
		if got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
		var before, after any
		if err := errors.Join(json.Unmarshal([]byte(text), &before), json.Unmarshal([]byte(got), &after)); err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("%s has another meaning than %q: %v", got, text, err)
		}
	}
}
