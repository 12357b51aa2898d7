package topology

import (
	"fmt"
	"strings"
)

// Mermaid draws the topology as a Mermaid flowchart: ports, topics, groups and targets.
func (t *Topology) Mermaid() string {
	m := &mermaid{ids: map[string]string{}, models: map[string]string{}}
	for _, model := range t.Models() {
		if m.models[model.Topic] == "" {
			m.models[model.Topic] = model.text()
		}
	}
	for _, l := range t.Listeners {
		port := m.node(`(["%s"])`, l.Address()+" "+transport(l.TLS)+l.Browsers.from()+l.asking()+l.from())
		for _, r := range l.Routes {
			if r.Target != nil {
				m.edge(port, m.node(`(["%s"])`, r.Target.String()), r.conditions())
				continue
			}
			if r.Fetch != nil {
				m.edge(m.topic(r.Cluster, r.Topic), port, "read by "+r.conditions())
				continue
			}
			m.edge(port, m.topic(r.Cluster, r.Topic), r.conditions())
			if r.ReplyTo != "" {
				m.edge(m.topic(r.Cluster, r.ReplyTo), port, "replies")
			}
		}
	}
	for _, r := range t.Remotes {
		name := r.Group
		if r.Processing.Ordered() {
			name += ", order: " + r.Processing.Order
		}
		if r.Processing.ExactlyOnce() {
			name += ", " + r.Processing.Guarantee
		}
		group := m.node(`["%s"]`, name)
		for _, route := range r.Routes {
			what := ""
			if route.Event != nil {
				what = "events"
			}
			m.edge(m.topic(r.Cluster, route.Topic), group, what)
			m.edge(group, m.node(`(["%s"])`, route.Target.String()), methods(route.Methods)+ofMetadata(route.Metadata))
			if route.ReplyTo != "" {
				m.edge(group, m.topic(r.Cluster, route.ReplyTo), "replies")
			}
		}
		for _, own := range []struct{ name, label string }{{r.Table, "table"}, {r.Loop, "loop"}, {r.Processing.DeadLetter, "dead letters"}} {
			m.edge(group, m.topic(r.Cluster, own.name), own.label)
		}
	}
	return "flowchart LR\n" + strings.Join(m.nodes, "") + strings.Join(m.edges, "")
}

type mermaid struct {
	nodes, edges []string
	ids          map[string]string
	models       map[string]string // by topic
}

// topic is the node of a topic; the same name on another cluster is another topic.
func (m *mermaid) topic(c *Cluster, name string) string {
	label := name + " @ " + c.Binding
	if model := m.models[name]; model != "" {
		label += ": " + model
	}
	return m.node(`[("%s")]`, label)
}

func (m *mermaid) node(shape, label string) string {
	key := shape + label
	id, ok := m.ids[key]
	if !ok {
		id = fmt.Sprintf("n%d", len(m.nodes))
		m.ids[key] = id
		m.nodes = append(m.nodes, "  "+id+fmt.Sprintf(shape, quoted(label))+"\n")
	}
	return id
}

func (m *mermaid) edge(from, to, label string) {
	line := fmt.Sprintf("  %s --> %s\n", from, to)
	if label != "" {
		line = fmt.Sprintf("  %s -->|\"%s\"| %s\n", from, quoted(label), to)
	}
	if _, drawn := m.ids[line]; !drawn {
		m.ids[line] = ""
		m.edges = append(m.edges, line)
	}
}

// quoted keeps a label from ending its quotes or being read as markup.
func quoted(label string) string {
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "`", "#96;").Replace(label)
}
