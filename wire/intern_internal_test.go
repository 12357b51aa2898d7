package wire

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// What is read after it is what was written, whoever writes over the bytes, and whatever others read at the same time.
func TestInternedTextIsTheStringOfItsBytes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long", 100)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 10_000 { // several times as many as are kept
				for _, want := range []string{"", "meta:content-language", fmt.Sprint("meta:x-", i), long} {
					b := []byte(want)
					got := intern(b)
					clear(b)
					if got != want {
						t.Errorf("%q became %q", want, got)
						return
					}
				}
			}
		})
	}
	all.Wait()
}

func TestInternedTextTakesMemoryForWhatIsNewOrLong(t *testing.T) {
	known, long := []byte("meta:content-language"), []byte(strings.Repeat("n", 65))
	if n := testing.AllocsPerRun(100, func() { intern(known) }); n > 0 { // it is kept since the first time
		t.Errorf("%v allocations for a known name", n)
	}
	if n := testing.AllocsPerRun(100, func() { intern(long) }); n < 1 { // what strangers write at length is not kept
		t.Error("a long name is kept")
	}
}
