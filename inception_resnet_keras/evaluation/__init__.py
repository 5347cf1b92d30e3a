"""Evaluate models on labelled images: metrics with intervals, comparisons, explanations, figures and reports."""
