package main

import (
	"errors"

	"github.com/spf13/cobra"

	"kafkagrpc/topology"
)

// fileFlags are the flags that say which configuration is meant, shared by run and check.
type fileFlags struct {
	config  string
	brokers []string
	listen  string
}

func (f *fileFlags) define(c *cobra.Command) {
	c.Flags().StringVarP(&f.config, "config", "c", "", "the zilla.yaml to read (required)")
	c.Flags().StringSliceVar(&f.brokers, "brokers", nil, "host:port,... that replaces the servers of every kafka client binding")
	c.Flags().StringVar(&f.listen, "listen", "", "address that replaces the host of every tcp server binding, such as 127.0.0.1")
}

func (f *fileFlags) load(env func(string) (string, bool)) (*topology.Topology, error) {
	if f.config == "" {
		return nil, usageError{errors.New("which configuration? name it with -c zilla.yaml")}
	}
	return topology.Load(f.config, topology.Options{Brokers: f.brokers, Listen: f.listen, LookupEnv: env})
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
