package tablestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"

	"kafkagrpc/internal/tablestore"
)

// A row is what it was, whatever its size and its first byte, in memory, on the disk, and after another opening.
func TestRowsOfAllSizes(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	b.Expiry = func(row []byte) int64 { return int64(len(row)) - 100 } // also one that is negative
	want := map[string][]byte{}
	for _, size := range []int{0, 1, 2, 5, 126, 127, 128, 129, 5000, 300 << 10, 5 << 20} {
		for _, first := range []byte{0, 1, 10, 255} {
			row := random(size)
			if size > 0 {
				row[0] = first
			}
			want[fmt.Sprint(size, " ", first)] = row
		}
	}
	s := open(t, b)
	holds := func(when string) {
		t.Helper()
		var all []string
		for key, row := range want {
			got, err := s.Get(key)
			has, errHas := s.Has(key)
			if check(t, err, errHas); !has || got == nil || !bytes.Equal(got, row) {
				t.Errorf("%s: %s is there: %t, with %d bytes", when, key, has, len(got))
			}
			all = append(all, key)
		}
		slices.Sort(all)
		var visited []string
		check(t, s.Keys(func(key []byte, expiry int64) bool {
			visited = append(visited, string(key))
			if at := int64(len(want[string(key)])) - 100; expiry != at {
				t.Errorf("%s: %s expires at %d, want %d", when, key, expiry, at)
			}
			return true
		}))
		if !slices.Equal(visited, all) {
			t.Errorf("%s: keys %q, want %q", when, visited, all)
		}
		n := 0
		check(t, each(s, func(key, row []byte) bool {
			n++
			if !bytes.Equal(row, want[string(key)]) {
				t.Errorf("%s: an iterator has %d bytes of %s", when, len(row), key)
			}
			return true
		}))
		if n != len(want) {
			t.Errorf("%s: an iterator has %d rows, want %d", when, n, len(want))
		}
	}
	for key, row := range want {
		check(t, s.Set(key, row))
	}
	holds("set")
	check(t, s.SetOffset(1), s.MarkRecovered(), s.Close())
	s = open(t, b)
	holds("opened again")
	for key := range want {
		if strings.HasSuffix(key, " 10") {
			check(t, s.Delete(key))
			delete(want, key)
		}
	}
	holds("some removed")
	check(t, s.Close())
}

// segmentsOf are the bytes of the segments of a store, and the number of the first.
func segmentsOf(t *testing.T, b tablestore.Stores) (size int64, first string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(b.Dir, "table.3", "rows", "*.ldb"))
	check(t, err)
	for _, name := range all {
		info, err := os.Stat(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // it was given up just now
		}
		check(t, err)
		size += info.Size()
	}
	if len(all) > 0 {
		first = filepath.Base(all[0])
	}
	return size, first
}

// However often rows are written anew and removed, the disk has a multiple of them, and all of them, also for those who read meanwhile.
func TestSegmentsAreGivenUp(t *testing.T) {
	t.Parallel()
	const (
		keys   = 500
		rows   = 20_000
		mebi   = 1 << 20
		middle = 2000 // bytes
	)
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	b.Partitions = 1000 // the least segments
	s := open(t, b)
	check(t, s.MarkRecovered())
	stable := map[string]string{} // rows that are never written anew
	dice := rand.New(rand.NewPCG(6, 1))
	var reading sync.WaitGroup
	over := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for whole := 0; ; whole++ {
				select {
				case <-over:
					return
				default:
				}
				it, err := s.Iterator()
				if err != nil {
					t.Error(err)
					return
				}
				for it.Next() {
					row, err := it.Value()
					if key, _, _ := strings.Cut(string(row), " "); key != string(it.Key()) || err != nil {
						t.Errorf("the row of %s is that of %s, %v", it.Key(), key, err)
					}
					if key := string(it.Key()); whole%2 == 0 {
						if row, err := s.Get(key); row != nil && !strings.HasPrefix(string(row), key+" ") || err != nil {
							t.Errorf("the row of %s is another one, %v", key, err)
						}
					}
				}
				if err := it.Err(); err != nil {
					t.Error(err)
				}
				it.Release()
			}
		})
	}
	state := map[string]string{}
	most := int64(0)
	for n := range rows {
		key := fmt.Sprint("key-", dice.IntN(keys))
		row := key + " " + strings.Repeat(string(rune('a'+n%26)), dice.IntN(2*middle))
		switch {
		case n%20 == 0:
			key = fmt.Sprint("stable-", n)
			row = key + " " + strings.Repeat("s", dice.IntN(2*middle))
			stable[key] = row
			check(t, s.Set(key, []byte(row)))
		case dice.IntN(10) == 0:
			delete(state, key)
			check(t, s.Delete(key))
		default:
			state[key] = row
			check(t, s.Set(key, []byte(row)))
		}
		check(t, s.SetOffset(int64(n)))
		if n%500 == 0 {
			size, _ := segmentsOf(t, b)
			most = max(most, size)
		}
	}
	close(over)
	reading.Wait()
	needed := int64(0)
	for _, all := range []map[string]string{state, stable} {
		for key, row := range all {
			needed += int64(len(row))
			if got, err := s.Get(key); string(got) != row || err != nil {
				t.Errorf("%s has %d bytes, want %d, %v", key, len(got), len(row), err)
			}
		}
	}
	_, first := segmentsOf(t, b)
	if limit := 2*needed + 8*mebi; most > limit || first == "000001.ldb" {
		t.Errorf("the segments, from %s on, had up to %d bytes, of which %d are needed", first, most, needed)
	}
	check(t, s.Close())
	s = open(t, b)
	n := 0
	check(t, each(s, func(key, row []byte) bool {
		n++
		if want := state[string(key)] + stable[string(key)]; string(row) != want {
			t.Errorf("opened again, %s has %d bytes, want %d", key, len(row), len(want))
		}
		return true
	}))
	if n != len(state)+len(stable) {
		t.Errorf("opened again, it has %d rows, want %d", n, len(state)+len(stable))
	}
	check(t, s.Close())
}

// What an iterator comes to late may have been written anew or removed, and its segment given up.
func TestIteratorOverSegmentsThatWereGivenUp(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	b.Partitions = 1000
	s := open(t, b)
	const rows = 1500
	row := func(n, version int) []byte {
		return fmt.Appendf(nil, "%d %d %s", n, version, bytes.Repeat([]byte("x"), 1000))
	}
	for n := range rows {
		check(t, s.Set(fmt.Sprintf("%04d", n), row(n, 1)))
	}
	it, err := s.Iterator()
	check(t, err)
	if !it.Next() {
		t.Fatal("there is no row")
	}
	for version := 2; ; version++ {
		for n := range rows {
			if n%3 == 1 {
				check(t, s.Delete(fmt.Sprintf("%04d", n)))
			} else if n%3 == 2 {
				check(t, s.Set(fmt.Sprintf("%04d", n), row(n, version)))
			}
		}
		if _, first := segmentsOf(t, b); first > "000002.ldb" { // the rows of all others are moved
			break
		}
	}
	seen := 1
	for it.Next() {
		value, err := it.Value()
		var n, version int
		_, errRow := fmt.Sscan(string(value), &n, &version)
		check(t, err, errRow)
		if string(it.Key()) != fmt.Sprintf("%04d", n) || n%3 == 0 && version != 1 || n%3 == 1 && version != 1 {
			t.Errorf("%s has row %d, version %d", it.Key(), n, version)
		}
		if n%3 != 1 {
			seen++
		}
	}
	check(t, it.Err())
	it.Release()
	if seen != rows/3*2 {
		t.Errorf("it has %d rows that were always there, want %d", seen, rows/3*2)
	}
	check(t, s.Close())
	if _, err := s.Get("0000"); !errors.Is(err, leveldb.ErrClosed) {
		t.Errorf("a row after the end: %v", err)
	}
}

// Rows that are removed do not stay on the disk because nothing comes after them.
func TestSegmentsOfRemovedRowsAreGivenUp(t *testing.T) {
	t.Parallel()
	b := stores(t, t.TempDir())
	b.End = func(string, int32) (int64, error) { return plenty, nil }
	b.Partitions = 1000 // segments of 1 MiB
	s := open(t, b)
	const rows = 10_000
	for n := range rows {
		check(t, s.Set(fmt.Sprint(n), make([]byte, 1000)))
	}
	for n := range rows {
		check(t, s.Delete(fmt.Sprint(n)))
	}
	for n := 0; ; n++ {
		if size, _ := segmentsOf(t, b); size < 3<<20 {
			break
		} else if n == 100_000 {
			t.Fatalf("%d bytes are left", size)
		}
		check(t, s.Delete("none"))
		keys(t, s) // which writes it
	}
	check(t, s.Close())
}
