package preflight

import (
	"context"
	"fmt"
	"sync"

	"kafkagrpc/internal/schemaregistry"
	"kafkagrpc/topology"
)

// registries asks the schema registries that plain events need, at the same time, and for the schemas that replies are written with.
func registries(ctx context.Context, t *topology.Topology) []Finding {
	found := make([][]Finding, len(t.Registries))
	var trying sync.WaitGroup
	for i, r := range t.Registries {
		trying.Go(func() { found[i] = registry(ctx, t, r) })
	}
	trying.Wait()
	var all []Finding
	for _, f := range found {
		all = append(all, f...)
	}
	return all
}

func registry(ctx context.Context, t *topology.Topology, of *topology.Registry) []Finding {
	f := Finding{"registry", of.Catalog + " at " + of.URL, OK, "answers"}
	r, err := schemaregistry.Open(of)
	if err == nil {
		defer r.Close()
		err = r.Ping(ctx)
	}
	if err != nil {
		f.Result, f.Detail = Failed, err.Error()
		return []Finding{f}
	}
	all := []Finding{f}
	for _, p := range t.RegistryProtos {
		if p.Registry == of {
			all = append(all, Finding{"proto", fmt.Sprintf("%s of %s", p.Ref, of.Catalog), OK, fmt.Sprintf("schema %d, with its imports", p.ID)})
		}
	}
	for _, m := range t.AllModels() {
		if m.Registry != of {
			continue
		}
		f := Finding{"schema", fmt.Sprintf("%s of %s", m.Schema, of.Catalog), OK, ""}
		s, err := r.Follow(ctx, topology.Encoding{Name: m.Name, Registry: of, Schema: m.Schema}, "")
		if err != nil {
			f.Result, f.Detail = Failed, err.Error()
		} else {
			f.Detail = fmt.Sprintf("%s schema %d", s.Schema().Format, s.Schema().ID)
		}
		all = append(all, f)
	}
	seen := map[string]bool{}
	for _, remote := range t.Remotes {
		for _, route := range remote.Routes {
			if route.Event == nil || route.Event.Reply.Registry != of {
				continue
			}
			f := Finding{"schema", fmt.Sprintf("%s of %s", route.Event.Reply.Schema, of.Catalog), OK, ""}
			s, err := r.Follow(ctx, route.Event.Reply, route.Event.Output.FullName())
			if err != nil {
				f.Result, f.Detail = Failed, err.Error()
			} else {
				f.Detail = fmt.Sprintf("%s schema %d", s.Schema().Format, s.Schema().ID)
			}
			if key := fmt.Sprint(f); !seen[key] {
				seen[key] = true
				all = append(all, f)
			}
		}
	}
	return all
}
