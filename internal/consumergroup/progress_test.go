package consumergroup

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawRuns(t *rapid.T) (base int64, runs []run) {
	base = rapid.Int64Range(0, 1<<40).Draw(t, "base")
	at := base
	for range rapid.SampledFrom([]int{0, 1, 10, 3000}).Draw(t, "runs") {
		from := at + rapid.Int64Range(1, 300).Draw(t, "unfinished")
		at = from + rapid.Int64Range(0, 100_000).Draw(t, "finished") // 0: it rests
		runs = append(runs, run{from, at})
	}
	return base, runs
}

func TestProgressIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base, runs := drawRuns(t)
		text := encodeProgress(base, runs)
		if len(text) > maxProgress {
			t.Fatalf("%d characters", len(text))
		}
		got, err := decodeProgress(text)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > len(runs) || !slices.Equal(got, runs[:len(got)]) {
			t.Fatalf("read %v, want %v", got, runs)
		}
		// Left out is only what did not fit: one more run takes up to 14 characters.
		if len(got) < len(runs) && len(text) < maxProgress-14 {
			t.Fatalf("%d of %d runs in %d characters", len(got), len(runs), len(text))
		}
	})
}

// With transactions nothing is left out, whatever is finished and rests in the span that a claim reads.
func TestProgressWithinTheSpanIsComplete(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.Int64Range(0, syntheticOffsets-maxSpan).Draw(t, "base")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		finished, resting := rapid.IntRange(0, 100).Draw(t, "percent finished"), rapid.IntRange(0, 100).Draw(t, "percent resting")
		want := make([]byte, rapid.SampledFrom([]int64{1, 4, 5, 6, 1000, maxSpan - 1, maxSpan}).Draw(t, "span"))
		var runs []run
		for i := range want {
			at := base + int64(i)
			switch n := random.IntN(200); {
			case n < finished:
				want[i] = digitFinished
				if n := len(runs); n > 0 && runs[n-1].to == at && want[i-1] == digitFinished {
					runs[n-1].to++
				} else {
					runs = append(runs, run{at, at + 1})
				}
			case n >= 200-resting:
				want[i] = digitResting
				runs = append(runs, run{at, at})
			}
		}
		text := encodeAll(base, runs)
		if len(text) > maxProgress {
			t.Fatalf("%d characters", len(text))
		}
		got, err := decodeProgress(text)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, runs) {
			t.Fatalf("read %v, want %v", got, runs)
		}
	})
}

// Runs that are longer than the span, of a session without transactions, remain such a text.
func TestProgressBeyondTheSpanIsOfRuns(t *testing.T) {
	t.Parallel()
	want := []run{{1001, 1002}, {1005, 1005}, {2000, 1000 + 2*maxSpan}}
	text := encodeAll(1000, want)
	if got, err := decodeProgress(text); err != nil || !slices.Equal(got, want) || text != encodeProgress(1000, want) {
		t.Errorf("%q is read as %v, %v", text, got, err)
	}
}

func TestContainsIsThatOfAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base, runs := drawRuns(t)
		offset := base + rapid.Int64Range(-5, 2000).Draw(t, "offset")
		want := slices.ContainsFunc(runs, func(r run) bool { return r.from <= offset && offset < r.to })
		if got := contains(runs, offset); got != want {
			t.Fatalf("contains(%v, %d) = %t", runs, offset, got)
		}
		if got, want := rested(runs, offset), slices.Contains(runs, run{offset, offset}); got != want {
			t.Fatalf("rested(%v, %d) = %t", runs, offset, got)
		}
	})
}

// A record that is skipped by mistake is lost, so nothing is believed that was not written just so.
func TestProgressThatIsNotOurs(t *testing.T) {
	t.Parallel()
	text := encodeProgress(1000, []run{{1001, 1050}, {1060, 1061}})
	digits := encodeDigits(1000, []run{{1001, 1005}, {1006, 1006}, {1007, 1060}, {1065, 1070}})
	if runs, err := decodeProgress(digits); len(runs) != 4 || err != nil {
		t.Fatalf("read as %v, %v", runs, err)
	}
	tests := []struct{ name, text string }{
		{"of somebody else", "consumed by batch 17"},
		{"of a later version", strings.Replace(text, "/1:", "/4:", 1)},
		{"of another kind", strings.Replace(text, "/1:", "/3:", 1)},
		{"of runs, and is of digits", strings.Replace(digits, "/3:", "/1:", 1)},
		{"digits, cut off", digits[:len(digits)-1]},
		{"two digits swapped", digits[:16] + digits[17:18] + digits[16:17] + digits[18:]},
		{"only the version", progressVersion},
		{"cut off", text[:len(text)-1]},
		{"longer", text + "A"},
		{"not base64", text + "!"},
		{"two characters swapped", text[:13] + text[14:15] + text[13:14] + text[15:]},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if runs, err := decodeProgress(test.text); err == nil {
				t.Errorf("read as %v", runs)
			}
		})
	}
	if runs, err := decodeProgress(""); runs != nil || err != nil {
		t.Errorf("nothing is read as %v, %v", runs, err)
	}
}

func FuzzDecodeProgress(f *testing.F) {
	f.Add(encodeProgress(1000, []run{{1001, 1050}, {1060, 1061}}))
	f.Add(encodeProgress(1000, []run{{1000, 1000}, {1001, 1050}, {1060, 1060}}))
	f.Add(encodeDigits(1000, []run{{1000, 1000}, {1001, 1050}, {1060, 1060}}))
	f.Add("")
	f.Add(progressVersion + "AAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		runs, err := decodeProgress(text)
		if err != nil {
			return
		}
		at := int64(0)
		for _, r := range runs {
			if r.from < at || r.to < r.from || r.to > syntheticOffsets {
				t.Fatalf("%v", runs)
			}
			at = r.to
		}
	})
}

// An earlier version must not skip what follows a record that rests, and handle that one.
func TestTextOfRestingRecordsIsNotThatOfEarlierVersions(t *testing.T) {
	t.Parallel()
	for want, runs := range map[string][]run{
		"finished/1:": {{1001, 1002}, {1005, 1006}},
		"finished/2:": {{1000, 1000}, {1001, 1002}},
	} {
		if got := encodeProgress(1000, runs); !strings.HasPrefix(got, want) {
			t.Errorf("%v is %q, want one of %q", runs, got, want)
		}
	}
}

func TestRunsOfAWindow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		push     []int64
		finish   []int64
		follow   []int64
		base     int64
		want     []run
		mostRuns int
		rest     []int64
	}{
		{"none finished", []int64{3, 4}, nil, nil, 3, nil, 10, nil},
		{"only the prefix", []int64{3, 4}, []int64{3}, nil, 4, nil, 10, nil},
		{"everything", []int64{3, 4}, []int64{3, 4}, nil, -1, nil, 10, nil},
		{"behind a slow one", []int64{3, 4, 5, 6}, []int64{4, 5}, nil, 3, []run{{4, 6}}, 10, nil},
		{"several", []int64{3, 4, 5, 6, 7}, []int64{4, 7, 6}, nil, 3, []run{{4, 5}, {6, 8}}, 10, nil},
		{"too many", []int64{3, 4, 5, 6, 7}, []int64{4, 6}, nil, 3, []run{{4, 5}}, 1, nil},
		{"gaps", []int64{3, 10, 20, 30}, []int64{10, 20}, nil, 3, []run{{10, 21}}, 10, nil},
		{"behind the prefix", []int64{3, 4, 5}, []int64{3, 5}, nil, 4, []run{{5, 6}}, 10, nil},
		{"resting", []int64{3, 4, 5, 6, 7}, []int64{4, 6}, nil, 3, []run{{3, 3}, {4, 5}, {5, 5}, {6, 7}}, 10, []int64{3, 5}},
		{"only resting", []int64{3, 4}, nil, nil, 3, []run{{4, 4}}, 10, []int64{4}},
		{"resting, and finished at last", []int64{3, 4, 5}, []int64{3, 4}, nil, 5, nil, 10, []int64{4}},
		{"a follower", []int64{3, 4, 5, 6}, []int64{4, 5, 6}, []int64{5}, 3, []run{{4, 5}, {6, 7}}, 10, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var w window
			for _, offset := range test.push {
				w.push(offset)
			}
			for _, offset := range test.follow {
				w.follow(offset, true)
			}
			for _, offset := range test.rest {
				w.rest(offset)
			}
			for _, offset := range test.finish {
				w.finish(offset)
			}
			base, got := w.runs(test.mostRuns)
			if base != test.base || !slices.Equal(got, test.want) {
				t.Errorf("runs() = %d, %v, want %d, %v", base, got, test.base, test.want)
			}
		})
	}
}
