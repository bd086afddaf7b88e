package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// board is what is needed of a Grafana dashboard to draw it.
type board struct {
	UID, Title string
	Panels     []panel
}

type panel struct {
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr, LegendFormat string }
	FieldConfig struct{ Defaults struct{ Unit string } }
}

// readBoards reads the shipped dashboards.
func readBoards(dir string) (boards []board, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no dashboards in %s: %w", dir, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var b board
		if err := json.Unmarshal(text, &b); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		boards = append(boards, b)
	}
	return boards, nil
}
