package partition

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"kafkagrpc/topology"
	"kafkagrpc/wire"
)

// orderedPartition is one whose lines are looked at alone.
func orderedPartition(order string) *Partition {
	b := &Binding{}
	b.config.Remote.Processing.Order = order
	return &Partition{Binding: b, lines: make(map[string]line)}
}

// Lines are lists, from which anybody may leave, more than once.
func TestLinesAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.SampledFrom([]string{topology.OrderKey, topology.OrderPartition}).Draw(t, "order")
		p := orderedPartition(order)
		model := map[string][]*attempt{}
		var left []*attempt
		of := func(key string) string {
			if order == topology.OrderPartition {
				return ""
			}
			return key
		}
		key := rapid.SampledFrom([]string{"", "a", "b"})
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				k := key.Draw(t, "key")
				a := &attempt{part: p, key: rapid.SampledFrom([]string{"", k, "t"}).Draw(t, "table key"), record: wire.Record{Key: []byte(k)}}
				p.join(a)
				model[of(k)] = append(model[of(k)], a)
			},
			"leave": func(t *rapid.T) {
				k := of(key.Draw(t, "key"))
				if len(model[k]) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(model[k])-1).Draw(t, "which")
				p.leaveLine(model[k][i])
				left = append(left, model[k][i])
				model[k] = slices.Delete(model[k], i, i+1)
			},
			"leave again": func(t *rapid.T) {
				if len(left) == 0 {
					t.Skip()
				}
				p.leaveLine(rapid.SampledFrom(left).Draw(t, "who"))
			},
			"": func(t *rapid.T) {
				lines := 0
				for k, want := range model {
					if len(want) > 0 {
						lines++
					}
					var got []*attempt
					p.inLine(&attempt{record: wire.Record{Key: []byte(k)}}, func(a *attempt) bool {
						got = append(got, a)
						return false
					})
					slices.Reverse(got)
					if !slices.Equal(got, want) {
						t.Fatalf("line %q has %d, want %d, or another order", k, len(got), len(want))
					}
					for i, a := range want {
						if (a.before == nil) != (i == 0) {
							t.Fatalf("the first one of line %q is not %d", k, i)
						}
					}
				}
				if len(p.lines) != lines {
					t.Fatalf("%d lines are kept, want %d", len(p.lines), lines)
				}
			},
		})
	})
}

// Who stands alone in its line, as most do where there are many keys, costs no memory.
func TestLinesOfOneAreCheap(t *testing.T) {
	p := orderedPartition(topology.OrderKey)
	var all []*attempt
	for i := range 100 {
		key := fmt.Sprint("key ", i)
		all = append(all, &attempt{part: p, key: key, record: wire.Record{Key: []byte(key)}})
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, a := range all {
			p.join(a)
		}
		for _, a := range all {
			p.leaveLine(a)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
