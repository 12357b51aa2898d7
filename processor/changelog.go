package processor

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lovoo/goka/storage"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/tablestore"
)

// changelog tells goka up to where a recovery has to read. goka waits for a record before the offset that it is told to be the
// end; the last offsets may belong to none that it is given: to markers of transactions, to what was written in aborted
// ones, and to rows that compaction has removed.
type changelog struct {
	ctx    context.Context
	reader *kafka.Reader
	log    *slog.Logger

	mu     sync.Mutex
	stores map[int32]*tablestore.Store // opened last
	owned  map[int32]*tablestore.Held  // of those, as the goroutines of the partitions see them
	open   map[int32]int64             // where a transaction is open that recoveries wait for
}

func newChangelog(ctx context.Context, reader *kafka.Reader, log *slog.Logger) *changelog {
	return &changelog{ctx: ctx, reader: reader, log: log, stores: make(map[int32]*tablestore.Store), owned: make(map[int32]*tablestore.Held), open: make(map[int32]int64)}
}

// builder opens stores, and remembers them.
func (c *changelog) builder(stores tablestore.Stores) storage.Builder {
	return func(topic string, partition int32) (storage.Storage, error) {
		s, err := stores.Open(topic, partition)
		if err != nil {
			return nil, err // without a type of its own, which would be a store that is nil
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stores[partition] = s
		delete(c.owned, partition)
		return s, nil
	}
}

// store is the one of a partition that was opened last.
func (c *changelog) store(partition int32) *tablestore.Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stores[partition]
}

// held is that store for who holds rows back until they are committed.
func (c *changelog) held(partition int32) *tablestore.Held {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owned[partition] == nil {
		c.owned[partition] = c.stores[partition].Held()
	}
	return c.owned[partition]
}

// end is the offset after the last record that the store of a partition needs, and will be given: also one behind a transaction
// that is open, which the recovery waits for. Without it a result would be missing, and its key executed again.
func (c *changelog) end(topic string, partition int32) (int64, error) {
	var from int64
	if store := c.store(partition); store != nil {
		from = store.Next()
	}
	last, open, stable, err := c.reader.Last(c.ctx, topic, partition, from)
	c.mu.Lock()
	delete(c.open, partition)
	if open {
		c.open[partition] = stable
	}
	c.mu.Unlock()
	if open {
		c.log.Warn("the recovery of the table waits for the end of a producer's transaction: results behind it cannot be read before",
			"topic", topic, "partition", partition, "offset", stable, "until", last)
	}
	return last, err
}

// waits says which recoveries wait for the end of a transaction; "" where none does.
func (c *changelog) waits() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var waits []string
	for _, partition := range slices.Sorted(maps.Keys(c.open)) {
		if s := c.stores[partition]; s != nil && !s.IsRecovered() && s.Next() <= c.open[partition] {
			waits = append(waits, fmt.Sprintf("partition %d waits for the end of a producer's transaction that is open at offset %d", partition, c.open[partition]))
		}
	}
	return strings.Join(waits, ", ")
}
