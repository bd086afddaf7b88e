// Package dashboards is the source of deploy/dashboards. The files there are
// written by this package's test, with -update, and compared by it without.
package dashboards

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// board is one dashboard; rows hold its panels from the left to the right.
type board struct {
	uid, title, about string
	rows              []row
}

type row struct {
	title  string
	panels []panel
}

// panel is one picture. Its kind is a line over time unless it says otherwise.
type panel struct {
	kind        kind
	title, unit string
	queries     []query
}

type kind int

const (
	lines kind = iota
	heat
	number
)

type query struct{ expr, legend string }

// q is a panel of lines with one query.
func q(title, unit, expr, legend string) panel {
	return panel{title: title, unit: unit, queries: []query{{expr, legend}}}
}

// All returns the dashboards by the names of their files.
func All() (map[string]dashboard.Dashboard, error) {
	all := make(map[string]dashboard.Dashboard)
	for _, b := range []board{overview, guards, audit, objectives} {
		built, err := b.build()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", b.uid, err)
		}
		all[b.uid+".json"] = built
	}
	return all, nil
}

func (b board) build() (dashboard.Dashboard, error) {
	d := dashboard.NewDashboardBuilder(b.title).Uid(b.uid).Description(b.about).
		Tags([]string{"sallyport"}).Refresh("30s").Time("now-1h", "now").Timezone("browser").Readonly().
		WithVariable(dashboard.NewDatasourceVariableBuilder("source").Label("Prometheus").Type("prometheus")).
		WithVariable(dashboard.NewQueryVariableBuilder("job").Label("Job").Datasource(source()).
			Query(dashboard.StringOrMap{String: cog.ToPtr("label_values(sallyport_build_info, job)")}).
			Refresh(dashboard.VariableRefreshOnDashboardLoad))
	for _, r := range b.rows {
		d = d.WithRow(dashboard.NewRowBuilder(r.title))
		for _, p := range r.panels {
			d = d.WithPanel(p.builder(uint32(24 / len(r.panels))))
		}
	}
	return d.Build()
}

func source() dashboard.DataSourceRef {
	return dashboard.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("$source")}
}

const height = 8

func (p panel) builder(width uint32) cog.Builder[dashboard.Panel] {
	switch p.kind {
	case heat:
		b := heatmap.NewPanelBuilder().Title(p.title).Unit(p.unit).Height(height).Span(width).Datasource(source())
		for i := range p.queries {
			b = b.WithTarget(p.target(i).Format(prometheus.PromQueryFormatHeatmap))
		}
		return b
	case number:
		b := stat.NewPanelBuilder().Title(p.title).Unit(p.unit).Height(height).Span(width).Datasource(source())
		for i := range p.queries {
			b = b.WithTarget(p.target(i))
		}
		return b
	default:
		b := timeseries.NewPanelBuilder().Title(p.title).Unit(p.unit).Height(height).Span(width).Datasource(source()).FillOpacity(10)
		for i := range p.queries {
			b = b.WithTarget(p.target(i).Exemplar(true))
		}
		return b
	}
}

func (p panel) target(i int) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().Expr(p.queries[i].expr).LegendFormat(p.queries[i].legend).RefId(string(rune('A' + i)))
}
