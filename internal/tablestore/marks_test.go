package tablestore_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kafkagrpc/internal/tablestore"
)

// marksOf marks rows such as "lane:7", once for each such word.
func marksOf(row []byte) (marks []tablestore.Mark) {
	for word := range bytes.FieldsSeq(row) {
		lane, number, marked := bytes.Cut(word, []byte(":"))
		if at, err := strconv.ParseInt(string(number), 10, 64); marked && err == nil {
			marks = append(marks, tablestore.Mark{Lane: string(lane), At: at})
		}
	}
	return marks
}

// marked is what a store has marked: by lane, in its order, with the sizes of the rows.
func marked(t *testing.T, s *tablestore.Store) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	counts := map[string]int64{}
	for _, lane := range s.LanesNow() {
		check(t, s.Marked(lane, func(at int64, key []byte, size int) bool {
			all[lane] = append(all[lane], fmt.Sprintf("%06d %s %d", at, key, size))
			counts[lane]++
			return true
		}))
	}
	if d := cmp.Diff(counts, s.Lanes()); d != "" {
		t.Errorf("the counts of the lanes: %s", d)
	}
	return all
}

func TestMarksFollowTheRows(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.Marks = marksOf
	b.End = func(string, int32) (int64, error) { return 1 << 40, nil }
	s := open(t, b)
	rows := map[string]string{}
	random := rand.New(rand.NewPCG(1, 2))
	offset := int64(0)
	want := func() map[string][]string {
		all := map[string][]string{}
		for key, row := range rows {
			for _, m := range marksOf([]byte(row)) {
				all[m.Lane] = append(all[m.Lane], fmt.Sprintf("%06d %s %d", m.At, key, len(row)))
			}
		}
		for lane := range all {
			slices.Sort(all[lane])
		}
		return all
	}
	for range 300 {
		for range random.IntN(20) {
			key := fmt.Sprint("key-", random.IntN(30))
			switch random.IntN(4) {
			case 0:
				delete(rows, key)
				check(t, s.Delete(key))
			case 1:
				rows[key] = "plain"
				check(t, s.Set(key, []byte("plain")))
			default:
				row := fmt.Sprintf("a:%d", random.IntN(5))
				if random.IntN(2) == 0 {
					row += fmt.Sprintf(" :%d", random.IntN(100_000))
				}
				if random.IntN(2) == 0 {
					row += " other"
				}
				rows[key] = row
				check(t, s.Set(key, []byte(row)))
			}
			offset++
			check(t, s.SetOffset(offset))
		}
		if random.IntN(10) == 0 {
			check(t, s.Close())
			s = open(t, b)
		}
		if d := cmp.Diff(want(), marked(t, s)); d != "" {
			t.Fatal(d)
		}
	}
	check(t, s.Close())

	// A program that knows of no marks writes on, and what it leaves is marked anew.
	b.Marks = nil
	s = open(t, b)
	for key := range maps.Keys(rows) {
		rows[key] = "b:1"
		check(t, s.Set(key, []byte("b:1")))
	}
	check(t, s.SetOffset(offset+1), s.Close())
	b.Marks = marksOf
	s = open(t, b)
	defer func() { check(t, s.Close()) }()
	if d := cmp.Diff(want(), marked(t, s)); d != "" {
		t.Error(d)
	}
}
