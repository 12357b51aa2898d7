package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

// fileFlags are the flags that say which configuration is meant, shared by run and check.
type fileFlags struct {
	config  string
	brokers []string
	listen  string

	protos func(*topology.Registry, topology.SchemaRef) (topology.RegistryProto, error) // see ask
}

// registryPatience is what schema registries may take until they give the protos that a file names: what starts together with the program may
// be there first.
const registryPatience = 15 * time.Second

// ask lets load ask schema registries for protos. Without it they are left out, with a warning.
func (f *fileFlags) ask(ctx context.Context, patience time.Duration, log *slog.Logger) {
	f.protos = schemaregistry.Protos(ctx, patience, log)
}

func (f *fileFlags) define(c *cobra.Command) {
	c.Flags().StringVarP(&f.config, "config", "c", "", "the zilla.yaml to read (required)")
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port,... that replaces the servers of every kafka client binding")
	c.Flags().StringVar(&f.listen, "listen", "", "address that replaces the host of every tcp server binding, such as 127.0.0.1")
}

func (f *fileFlags) load(env func(string) (string, bool)) (*topology.Topology, error) {
	return f.loadWith(f.options(env))
}

func (f *fileFlags) loadWith(o topology.Options) (*topology.Topology, error) {
	if f.config == "" {
		return nil, usageError{errors.New("which configuration? name it with -c zilla.yaml")}
	}
	return topology.Load(f.config, o)
}

func (f *fileFlags) options(env func(string) (string, bool)) topology.Options {
	return topology.Options{Brokers: f.brokers, Listen: f.listen, LookupEnv: env, Protos: f.protos}
}

// remotes loads the file, and answers its remotes, or the one with a binding.
func (f *fileFlags) remotes(env func(string) (string, bool), binding string) (*topology.Topology, []topology.Remote, error) {
	t, err := f.load(env)
	if err != nil {
		return nil, nil, err
	}
	remotes, err := remotesOf(t, binding)
	return t, remotes, err
}
