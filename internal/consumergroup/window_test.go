package consumergroup

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestWindow(t *testing.T) {
	t.Parallel()
	const none = int64(-1)
	type step struct {
		finish int64
		commit int64 // none: nothing to commit
	}
	tests := []struct {
		name  string
		push  []int64
		steps []step
		left  int
	}{
		{"in order", []int64{0, 1, 2}, []step{{0, 1}, {1, 2}, {2, 3}}, 0},
		{"in reverse", []int64{0, 1, 2}, []step{{2, none}, {1, none}, {0, 3}}, 0},
		{"head last but one", []int64{0, 1, 2}, []step{{1, none}, {0, 2}, {2, 3}}, 0},
		{"head never", []int64{0, 1, 2}, []step{{1, none}, {2, none}}, 3},
		{"start above zero", []int64{40, 41}, []step{{41, none}, {40, 42}}, 0},
		{"gaps", []int64{3, 7, 8, 1000}, []step{{8, none}, {3, 4}, {7, 9}, {1000, 1001}}, 0},
		{"offset in a gap", []int64{3, 7}, []step{{5, none}, {3, 4}, {7, 8}}, 0},
		{"twice", []int64{0, 1, 2}, []step{{1, none}, {1, none}, {0, 2}, {0, none}, {1, none}, {2, 3}}, 0},
		{"never pushed", []int64{0}, []step{{9, none}, {0, 1}, {9, none}}, 0},
		{"empty", nil, []step{{0, none}}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var w window
			for _, offset := range test.push {
				w.push(offset)
			}
			for i, s := range test.steps {
				commit, ok := w.finish(s.finish)
				if ok != (s.commit != none) || ok && commit != s.commit {
					t.Fatalf("step %d: finish(%d) = %d, %t, want %d", i, s.finish, commit, ok, s.commit)
				}
			}
			if w.len() != test.left {
				t.Errorf("len() = %d, want %d", w.len(), test.left)
			}
		})
	}
}

// A window does what a plain list of all offsets does, whatever is pushed and finished in whatever order.
func TestWindowAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var w window
		var pushed []int64 // all ever, ascending
		finished := map[int64]bool{}
		prefix := 0 // how many of pushed are committed
		next := rapid.Int64Range(0, 1000).Draw(t, "first offset")

		finish := func(offset int64) {
			wanted := int64(-1)
			finished[offset] = true
			for prefix < len(pushed) && finished[pushed[prefix]] {
				wanted = pushed[prefix] + 1
				prefix++
			}
			commit, ok := w.finish(offset)
			if ok != (wanted >= 0) || ok && commit != wanted {
				t.Fatalf("finish(%d) = %d, %t, want %d", offset, commit, ok, wanted)
			}
		}
		unfinished := func() (all []int64) {
			for _, offset := range pushed[prefix:] {
				if !finished[offset] {
					all = append(all, offset)
				}
			}
			return all
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.SampledFrom([]int{1, 10, 3000}).Draw(t, "records") {
					w.push(next)
					pushed = append(pushed, next)
					next += rapid.SampledFrom([]int64{1, 1, 1, 2, 500}).Draw(t, "gap")
				}
			},
			"finish one": func(t *rapid.T) {
				if open := unfinished(); len(open) > 0 {
					finish(rapid.SampledFrom(open).Draw(t, "offset"))
				}
			},
			"finish many from the front": func(t *rapid.T) {
				open := unfinished()
				for _, offset := range open[:rapid.IntRange(0, len(open)).Draw(t, "records")] {
					finish(offset)
				}
			},
			"": func(t *rapid.T) {
				if w.len() != len(pushed)-prefix {
					t.Fatalf("len() = %d, want %d", w.len(), len(pushed)-prefix)
				}
			},
		})
		open := unfinished()
		slices.Reverse(open)
		for _, offset := range open {
			finish(offset)
		}
		if w.len() != 0 {
			t.Fatalf("%d offsets left after all were finished", w.len())
		}
	})
}

// The memory of a window follows the window, not the number of records that passed through it.
func TestWindowMemory(t *testing.T) {
	t.Parallel()
	const inFlight = 5000
	var w window
	for offset := range int64(1_000_000) {
		w.push(offset)
		if offset >= inFlight {
			if commit, ok := w.finish(offset - inFlight); !ok || commit != offset-inFlight+1 {
				t.Fatalf("finish(%d) = %d, %t", offset-inFlight, commit, ok)
			}
		}
	}
	if w.len() != inFlight || cap(w.entries) > 4*inFlight {
		t.Errorf("%d offsets take the room of %d", w.len(), cap(w.entries))
	}
}
