package processor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"kafkagrpc/internal/kafka"
	"kafkagrpc/internal/statedir"
	"kafkagrpc/topology"
)

// Reset makes a group begin anew: its committed offsets and the local stores of one state directory are forgotten, so that
// all requests that are still on their topics are read again. What the table knows is answered from there. What it does not,
// because it is older than table.expiry, is executed again; with Table all of it is.
type Reset struct {
	Remote   topology.Remote
	StateDir string // of the instance on this machine; a folder that does not exist has nothing to forget
	Table    bool   // also delete the table and the loop topic, which the next start creates
	DryRun   bool   // only say what would be done
}

// Run resets, and answers what it has done, or would do, a line each, behind what the next start executes again; also with an
// error. It refuses while the group has members, or the state directory has an owner, and then has done nothing.
func (r Reset) Run(ctx context.Context) (done []string, err error) {
	topics, err := kafka.OpenTopics(kafka.ClusterOf(r.Remote.Cluster, r.Remote.Group+"-reset"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, topics.Close()) }()
	members, err := topics.Members(r.Remote.Group)
	if err != nil {
		return nil, err
	}
	if len(members) > 0 {
		return nil, fmt.Errorf("group %s has members: %s; stop them, and wait until their sessions have timed out (10s by default)",
			r.Remote.Group, strings.Join(members, ", "))
	}
	stores := filepath.Join(r.StateDir, r.Remote.Group)
	_, err = os.Stat(stores)
	local := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if local {
		state, locked := statedir.Open(r.StateDir)
		if locked != nil {
			return nil, locked
		}
		defer func() { err = errors.Join(err, state.Close()) }()
	}

	done, err = r.again(ctx, topics)
	if err != nil { // it needs READ on the request topics, which the rest does not
		done = append(done, fmt.Sprintf("how many requests are executed again at the next start is not known: %v", err))
	}
	err = ctx.Err()
	step := func(what string, do func() error) {
		if err != nil {
			return
		}
		if err = ctx.Err(); err == nil && !r.DryRun {
			err = do()
		}
		if err == nil {
			done = append(done, what)
		}
	}
	// First, because Kafka itself refuses it when a member has joined meanwhile.
	step(fmt.Sprintf("group %s: its committed offsets are forgotten", r.Remote.Group), func() error { return topics.ForgetGroup(r.Remote.Group) })
	if r.Table {
		for _, topic := range []string{r.Remote.Table, r.Remote.Loop} {
			missing, err := topics.Missing([]string{topic})
			if err != nil {
				return done, err
			}
			if !slices.Contains(missing, topic) {
				step(fmt.Sprintf("topic %s: deleted", topic), func() error { return topics.Delete(topic) })
			}
		}
	}
	if local {
		step(fmt.Sprintf("folder %s: removed", stores), func() error { return os.RemoveAll(stores) })
	}
	return done, err
}
