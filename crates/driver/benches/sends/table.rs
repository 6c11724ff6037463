//! The table of figures.

use crate::rotation::Figures;

/// A Markdown table of `columns`, whose first row the ratios are to.
pub(crate) fn print(head: &str, rows: &[(String, Option<String>)], columns: &[(String, Vec<Figures>)]) {
    let heads: Vec<&str> = columns.iter().map(|(head, _)| &**head).collect();
    println!("\n| {head} | {} |", heads.join(" | "));
    println!("|---|{}", "--:|".repeat(columns.len()));
    let mut notes = Vec::new();
    for (row, (name, remark)) in rows.iter().enumerate() {
        print!("| {name} |");
        for (_, figures) in columns {
            let (ours, base) = (&figures[row], &figures[0]);
            if let Some(why) = &ours.refused {
                print!(" – |");
                let note = format!("{name}: {why}");
                if !notes.contains(&note) {
                    notes.push(note);
                }
                continue;
            }
            let ratios = ours.costs.iter().zip(&base.costs).map(|(ours, base)| ours / base);
            print!(" {:.2} ({:.2}) |", median(ours.costs.clone()), median(ratios.collect()));
        }
        println!();
        notes.extend(remark.iter().map(|remark| format!("{name}: {remark}")));
    }
    if let Some((head, figures)) = columns.first() {
        notes.push(format!("rotations: {}, of {head}", figures[0].costs.len()));
    }
    println!(
        "\n{}",
        notes.iter().map(|note| format!("- {note}\n")).collect::<String>()
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 if middle == 0 => f64::NAN,
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}
