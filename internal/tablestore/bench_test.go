package tablestore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"kafkagrpc/internal/tablestore"
)

// BenchmarkCalls is what calls do to the stores of their partitions: each asks for a key that is not there, sets its row, and sets
// the offset of that.
func BenchmarkCalls(b *testing.B) { benchmarkRows(b, true, 0) }

// BenchmarkCallsInTransactions is the same where rows are held until 100 of them are confirmed.
func BenchmarkCallsInTransactions(b *testing.B) { benchmarkRows(b, true, 100) }

// BenchmarkRecovery is what the recovery of a table does to its stores: it sets rows and their offsets.
func BenchmarkRecovery(b *testing.B) { benchmarkRows(b, false, 0) }

// benchmarkRows reports the CPU time of the process, with that of compactions, as cpu-us/op.
func benchmarkRows(b *testing.B, calls bool, held int) {
	for _, n := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("stores=%d", n), func(b *testing.B) {
			row := random(250)
			stores := tablestore.Stores{
				Dir: b.TempDir(), MaxAge: time.Hour, Partitions: n, Log: slog.New(slog.DiscardHandler),
				End: func(string, int32) (int64, error) { return 0, nil },
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu(b)
			var users sync.WaitGroup
			for partition := range n {
				users.Go(func() {
					s, err := stores.Open(topic, int32(partition))
					if err == nil && calls {
						err = s.MarkRecovered()
					}
					h, waits := s.Held(), make([]string, 0, held)
					get := s.Get
					if held > 0 {
						get = h.Get
					}
					dice := rand.New(rand.NewPCG(1, uint64(partition)))
					for offset := 0; offset*n+partition < b.N && err == nil; offset++ {
						key := fmt.Sprintf("%016x-%016x", dice.Uint64(), dice.Uint64())
						if calls {
							var found []byte
							if found, err = get(key); found != nil {
								b.Errorf("key %s is there", key)
							}
						}
						if held == 0 {
							err = errors.Join(err, s.Set(key, row), s.SetOffset(int64(offset)))
							continue
						}
						err = errors.Join(err, h.Set(key, row))
						if waits = append(waits, key); len(waits) < held {
							continue
						}
						for n, key := range waits {
							err = errors.Join(err, h.Confirm(key, row, int64(offset-held+1+n)))
						}
						waits = waits[:0]
					}
					if err := errors.Join(err, s.Close()); err != nil {
						b.Error(err)
					}
				})
			}
			users.Wait()
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
