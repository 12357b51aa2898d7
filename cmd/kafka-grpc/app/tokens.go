package app

import (
	"context"

	"kafkagrpc/internal/admin"
	"kafkagrpc/internal/kafka"
)

// keepTokens renews the tokens that brokers are shown, where they come from somewhere.
func (a *App) keepTokens(ctx context.Context) error {
	for _, cluster := range a.c.Topology.Clusters() {
		sasl := kafka.ClusterOf(cluster, "").SASL
		if sasl == nil || sasl.Tokens == nil {
			continue
		}
		a.addPart(admin.Part{Name: "token of " + cluster.Binding, Check: sasl.Tokens.Check, Note: sasl.Tokens.Note})
		a.run(ctx, func(ctx context.Context) error {
			sasl.Tokens.Keep(ctx, a.c.Log)
			return nil
		})
	}
	return nil
}
